"""Stubs: the processes in which the server runs its Python models, and the shared memory they leave."""

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from footfall_serving.install import STUB

SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Stub:
    """One live stub: its model, version and shared-memory region."""

    pid: int
    model: str
    version: int
    region: str


def live_stubs(server_pid: int) -> list[Stub]:
    """The server's stubs that run; a killed one waits as a zombie and does not count."""
    stubs = []
    for child in _children(server_pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = child.cmdline()
            # Less than three words has who is about to run the stub's program, or to end.
            if child.status() == psutil.STATUS_ZOMBIE or len(words) < 3 or Path(words[0]).name != STUB:
                continue
            folder = Path(words[1]).parent
            stubs.append(Stub(child.pid, folder.parent.name, int(folder.name), words[2]))
    return stubs


def count_stubs(stubs: list[Stub]) -> Counter[tuple[str, int]]:
    return Counter((stub.model, stub.version) for stub in stubs)


def remove_orphaned_regions(prefix: str, stubs: list[Stub]) -> None:
    """Unlink shared memory named with `prefix` that no live stub uses: a killed stub never does it itself."""
    used = {stub.region for stub in stubs}
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        if not any(region.name.startswith(name) for name in used):
            region.unlink(missing_ok=True)


def is_stopped(pid: int) -> bool:
    """By SIGSTOP: it neither works nor ends."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def worked_s(server_pid: int) -> float:
    """Processor time that the stubs and what they started have had."""
    return _worked_s(_children(server_pid))


def stub_worked_s(pid: int) -> float:
    """Processor time that a stub and what it started have had."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return _worked_s([psutil.Process(pid), *_children(pid)])
    return 0.0


def _worked_s(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
