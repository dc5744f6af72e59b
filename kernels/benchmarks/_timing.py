"""Timing of contestants on the device they run on, and the one JSON line every benchmark here ends with."""

import gc
import importlib.util
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import triton

from footfall_kernels.launch import interpreted

WARM_UP = 3
"""Calls before the first that is timed: compilation, then clocks and caches."""
HEAD_START_CYCLES = 4_000_000
"""What a GPU waits before a timed call, 2 ms: launches are queued by then, as a CUDA graph would have them."""
PEAK_TFLOPS = {"H100": 790.0, "H200": 790.0}
"""Dense bf16 products, measured on an H200; the H100 has the same multiprocessors."""


def _load_facts() -> Any:
    """benchmarks/_facts.py of the repository: machine(), commit(), summary()."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "_facts.py"
    spec = importlib.util.spec_from_file_location("_facts", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


facts = _load_facts()


def time_ms(
    functions: Mapping[str, Callable[[], object]], *, device: torch.device | str, repeats: int
) -> dict[str, list[float]]:
    """Milliseconds of `repeats` calls of each after warm-up: by CUDA events on a GPU, else by the clock.

    The functions take turns, so that a clock that falls or a neighbour that wakes meets them all.
    """
    for function in functions.values():
        for _ in range(1 if interpreted() else WARM_UP):
            function()
    once = _gpu_ms if torch.device(device).type == "cuda" else _cpu_ms
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(once(function))
    return times


def peak_bytes(function: Callable[[], object], *, device: torch.device | str) -> int:
    """Most bytes that one call holds at once above what was held before it."""
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        function()
    held = most = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def peak_tflops(device: torch.device | str) -> float | None:
    """Of a GPU in PEAK_TFLOPS."""
    if torch.device(device).type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for chip, peak in PEAK_TFLOPS.items() if chip in name), None)


def report(
    what: str, shapes: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], absent: Mapping[str, str]
) -> None:
    """A line a row for people, then one JSON object as the last line of stdout.

    rows: each with "implementation" and "ms", a list from `time_ms`, and whatever else was measured; "peers" names
    other rows' implementations and becomes "ratio_to": this row's median over each of theirs. absent: why a peer is
    in no row.
    """
    medians = {row["implementation"]: facts.summary(row["ms"])["median"] for row in rows}
    done = []
    for row in rows:
        median = medians[row["implementation"]]
        more = {name: value for name, value in row.items() if name not in ("implementation", "ms", "peers")}
        if row.get("peers"):
            more["ratio_to"] = {peer: round(median / medians[peer], 3) for peer in row["peers"]}
        done.append({"implementation": row["implementation"], "ms": facts.summary(row["ms"]), **more})
        print(f"{row['implementation']:<36} {median:10.3f} ms  {more}")
    versions = {"torch": torch.__version__, "triton": triton.__version__}
    machine = {**facts.machine(), **versions, "busy_cores": facts.busy_cores(0.5)}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    if interpreted():
        machine["interpreter"] = True
    print(
        json.dumps(
            {
                "what": what,
                "shapes": shapes,
                "machine": machine,
                "commit": _commit(),
                "absent": absent,
                "rows": done,
            }
        )
    )


def _commit() -> str:
    """What was measured; a copy of the files on a rented machine has no history."""
    try:
        commit: str = facts.commit()
    except (OSError, subprocess.CalledProcessError):
        return "no repository"
    return commit


def _gpu_ms(function: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda._sleep(HEAD_START_CYCLES)  # type: ignore[no-untyped-call]
    start.record()
    function()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds


def _cpu_ms(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)
