"""Timing of an op on the device it runs on, and the one JSON line every benchmark here ends with."""

import gc
import importlib.util
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import triton

from footfall_kernels.launch import interpreted

WARM_UP = 3
"""Calls before the first that is timed: compilation, then clocks and caches."""


def _load_facts() -> Any:
    """benchmarks/_facts.py of the repository: machine(), commit(), summary()."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "_facts.py"
    spec = importlib.util.spec_from_file_location("_facts", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


facts = _load_facts()


def time_ms(function: Callable[[], object], *, device: torch.device | str, repeats: int) -> list[float]:
    """Milliseconds of `repeats` calls after warm-up: by CUDA events on a GPU, else by the clock."""
    for _ in range(1 if interpreted() else WARM_UP):
        function()
    return [
        _gpu_ms(function) if torch.device(device).type == "cuda" else _cpu_ms(function)
        for _ in range(repeats)
    ]


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


def report(what: str, shapes: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """A line a row for people, then one JSON object as the last line of stdout.

    rows: each with "implementation" and "ms", a list from `time_ms`, and whatever else was measured; "peer" names the
    implementation of another row, and adds "ratio_to_peer": this row's median over that one's.
    """
    medians = {row["implementation"]: facts.summary(row["ms"])["median"] for row in rows}
    done = []
    for row in rows:
        done.append({**row, "ms": facts.summary(row["ms"])})
        if "peer" in row:
            done[-1]["ratio_to_peer"] = round(medians[row["implementation"]] / medians[row["peer"]], 3)
        more = {name: value for name, value in done[-1].items() if name not in ("implementation", "ms")}
        print(f"{row['implementation']:<24} {medians[row['implementation']]:10.3f} ms  {more}")
    machine = {**facts.machine(), "torch": torch.__version__, "triton": triton.__version__}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    if interpreted():
        machine["interpreter"] = True
    print(
        json.dumps(
            {"what": what, "shapes": shapes, "machine": machine, "commit": facts.commit(), "rows": done}
        )
    )


def _gpu_ms(function: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
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
