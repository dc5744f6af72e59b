"""What a figure needs beside it to mean something: the machine, the commit, the spread."""

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, Any]:
    """The processor by name, cores, memory and Python."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
    }


def busy_cores(seconds: float = 2.0) -> float:
    """Cores that others keep busy while the caller waits: above a few tenths, what is timed next is disturbed."""
    share: float = psutil.cpu_percent(interval=seconds) / 100
    return round(share * (os.cpu_count() or 1), 2)


def cpu_s(pid: int) -> float:
    """Processor time that a process and those it started have had."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def commit() -> str:
    """The commit that was measured, `+changes` behind it where tracked files differ from it."""
    head = _git("rev-parse", "--short", "HEAD")
    return f"{head}+changes" if _git("status", "--porcelain", "--untracked-files=no") else head


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median and spread of repeated measurements, and the measurements."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": list(values),
    }


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
