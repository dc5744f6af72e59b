"""The speed marks of the kernels, one after another: a JSON file a mark, with what was measured and the verdict.

    python kernels/benchmarks/all.py --out FOLDER [--meta-kernels FOLDER] [--only NAME ...] [--small]

Each benchmark runs in a process of its own, so that one that fails takes no other with it; it proves its results
before it times them. On a GPU all but the CPU's marks are judged, for which an H200 was in mind; on a CPU its own.
--small runs everything end to end at tiny shapes, in Triton's interpreter on a CPU, and judges nothing. A mark's file
holds the whole report of its benchmark. Ends with 1 if a mark was missed or a benchmark failed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

LIMIT_S = 540
"""Of one benchmark, Meta's autotuning of 49 configurations included."""
Report = Mapping[str, Any]

FULL = ("attention.py", "--lengths", "full", "--longest", "8192")
PACKED = ("attention.py", "--lengths", "zipf", "--longest", "8192")
RUNS: dict[str, tuple[str, ...]] = {
    "silu": (*FULL, "--kinds", "silu", "--peers"),
    "softmax": (*FULL, "--kinds", "softmax", "--bias", "without", "--peers", "sdpa", "flex"),
    "packed": (*PACKED, "--kinds", "softmax", "--bias", "with", "--peers", "flex"),
    "meta": (*FULL, "--kinds", "silu", "--bias", "without", "--peers", "meta"),
    "decode": ("decode_attention.py",),
    "loss": ("linear_cross_entropy.py",),
    "topk": ("catalogue_topk.py",),
    "padded": ("attention.py", "--kinds", "softmax", "--bias", "without", "--peers", "sdpa"),
}
"""Script and options of each benchmark; default shapes are the marks'."""
ON_A_CPU = ("padded",)


class NotMeasuredError(Exception):
    """Why a report does not hold what a mark is about."""


@dataclass(frozen=True)
class Mark:
    """value(report of RUNS[run]) must be at most, or at least, `limit`."""

    sentence: str
    run: str
    value: Callable[[Report], float]
    limit: float
    at_least: bool = False
    stretch: float | None = None

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def ms(name: str) -> Callable[[Report], float]:
    """Median milliseconds of an implementation."""
    return lambda report: float(_row(report, name)["ms"]["median"])


def field(name: str, key: str) -> Callable[[Report], float]:
    """A figure of an implementation's row."""

    def read(report: Report) -> float:
        row = _row(report, name)
        if key not in row:
            raise NotMeasuredError(f"{name} has no {key}{_why(report)}")
        return float(row[key])

    return read


def quotient(over: tuple[str, ...], under: str) -> Callable[[Report], float]:
    """Time of the fastest of `over` that was measured, over that of `under`."""

    def divide(report: Report) -> float:
        measured = {row["implementation"] for row in report["rows"]}
        present = [name for name in over if name in measured]
        if not present:
            raise NotMeasuredError(f"{' and '.join(over)} not measured{_why(report)}")
        return min(ms(name)(report) for name in present) / ms(under)(report)

    return divide


def _worst(*values: Callable[[Report], float]) -> Callable[[Report], float]:
    return lambda report: max(value(report) for value in values)


def _row(report: Report, name: str) -> Mapping[str, Any]:
    for row in report["rows"]:
        if row["implementation"] == name:
            return dict(row)
    raise NotMeasuredError(f"{name} was not measured{_why(report)}")


def _why(report: Report) -> str:
    return "".join(f"; {name}: {reason}" for name, reason in report["absent"].items())


META = ("meta silu {}", "meta tma silu {}")
MARKS: dict[str, Mark] = {
    "silu_forward": Mark(
        "SiLU forward, 32 x 8,192, 4 heads of 64: ms", "silu", ms("triton silu forward"), 2.8, stretch=2.34,
    ),
    "silu_backward": Mark("the same, backward: ms", "silu", ms("triton silu backward"), 9.0, stretch=6.8),
    "silu_bias": Mark(
        "SiLU with position and time bias over without, the worse of forward and backward", "silu",
        _worst(
            quotient(("triton silu + bias forward",), "triton silu forward"),
            quotient(("triton silu + bias backward",), "triton silu backward"),
        ),
        1.25,
    ),
    "softmax_beside_flex": Mark(
        "softmax forward: FlexAttention's time over ours", "softmax",
        quotient(("flex softmax forward",), "triton softmax forward"), 1.0, at_least=True,
    ),
    "packed_bias_forward_beside_flex": Mark(
        "softmax with bias forward, Zipf 1.2 up to 8,192: FlexAttention's time over ours", "packed",
        quotient(("flex softmax + bias forward",), "triton softmax + bias forward"), 1.5, at_least=True,
    ),
    "packed_bias_backward_beside_flex": Mark(
        "the same, backward", "packed",
        quotient(("flex softmax + bias backward",), "triton softmax + bias backward"), 1.5, at_least=True,
    ),
    "silu_forward_beside_meta": Mark(
        "SiLU forward: the time of Meta's Triton kernels over ours", "meta",
        quotient(tuple(name.format("forward") for name in META), "triton silu forward"), 1.5, at_least=True,
    ),
    "silu_backward_beside_meta": Mark(
        "SiLU backward: the time of Meta's Triton kernels over ours", "meta",
        quotient(tuple(name.format("backward") for name in META), "triton silu backward"), 2.0, at_least=True,
    ),
    "decode": Mark(
        "decode, 512 candidates over 8,192 events, batch 32, the slower of SiLU and softmax: ms", "decode",
        _worst(ms("triton silu"), ms("triton softmax")), 0.35,
    ),
    "loss_time": Mark(
        "linear_cross_entropy over the plain loss, 16,384 tokens x 1M x 256: time", "loss",
        quotient(("triton",), "plain torch"), 1.0,
    ),
    "loss_memory": Mark("the same: memory", "loss", field("triton", "memory_ratio_to_peer"), 0.05),
    "topk": Mark(
        "catalogue_topk, 1M x 256, batch 64: share of copy bandwidth", "topk",
        field("triton", "fraction_of_copy_bandwidth"), 0.6, at_least=True,
    ),
    "cpu_forward_beside_padded": Mark(
        "softmax forward on a CPU over SDPA on the padded batch", "padded",
        quotient(("reference softmax forward",), "sdpa softmax forward"), 1.0,
    ),
    "cpu_backward_beside_padded": Mark(
        "the same, backward", "padded",
        quotient(("reference softmax backward",), "sdpa softmax backward"), 1.0,
    ),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for a JSON file a mark")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="benchmarks to run")
    parser.add_argument("--meta-kernels", metavar="FOLDER", help="a checkout of generative-recommenders")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see everything run")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    on_gpu, worst = torch.cuda.is_available(), 0
    for name in options.only:
        report: Report | str = "a CPU's mark" if on_gpu else "needs a GPU"
        failed = False
        if options.small or on_gpu != (name in ON_A_CPU):
            report, failed = run(name, options, interpret=options.small and not on_gpu)
        for key, mark in MARKS.items():
            if mark.run == name:
                verdict = judge(mark, report, small=options.small)
                (options.out / f"{key}.json").write_text(json.dumps(verdict, indent=1) + "\n")
                told = {field: value for field, value in verdict.items() if field != "report"}
                print(f"{key}: {told}", flush=True)
                worst = max(worst, int(failed or verdict["verdict"] == "missed"))
    return worst


def run(name: str, options: argparse.Namespace, *, interpret: bool) -> tuple[Report | str, bool]:
    """The report of a benchmark, or why there is none and that this is a failure."""
    script, *rest = RUNS[name]
    command = [sys.executable, str(Path(__file__).parent / script), *rest]
    if options.meta_kernels and "meta" in rest:
        command += ["--meta-kernels", options.meta_kernels]
    if options.small:
        command += ["--small", "--repeats", "2"]
    environment = {**os.environ, "TRITON_INTERPRET": str(int(interpret))}
    print(f"{name}: {' '.join(command[1:])}", flush=True)
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"took more than {LIMIT_S} s", True
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr, flush=True)
        return f"failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}", True
    return json.loads(done.stdout.splitlines()[-1]), False


def judge(mark: Mark, report: Report | str, *, small: bool) -> dict[str, Any]:
    """What a mark's file holds."""
    verdict: dict[str, Any] = {
        "mark": mark.sentence,
        "wanted": f"at {'least' if mark.at_least else 'most'} {mark.limit}",
        "stretch": mark.stretch,
        "value": None,
        "verdict": "not judged",
    }
    if isinstance(report, str):
        return {**verdict, "reason": report}
    try:
        value = mark.value(report)
    except NotMeasuredError as reason:
        return {**verdict, "reason": str(reason), "report": report}
    verdict["value"] = float(f"{value:.4g}")
    if small:
        return {**verdict, "reason": "tiny shapes", "report": report}
    verdict["verdict"] = "passed" if mark.reached(value) else "missed"
    return {**verdict, "report": report}


if __name__ == "__main__":
    sys.exit(main())
