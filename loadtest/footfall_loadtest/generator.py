"""Generator: what the load test itself costs, and whether on the server's cores."""

import os
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import psutil

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Cost:
    """CPU seconds of this process, all its threads, from `begin` on."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._began = time.process_time()

    @property
    def cpu_s(self) -> float:
        return time.process_time() - self._began


def keep_apart(urls: Iterable[str]) -> str:
    """Move this process to cores where the server that listens there does not run, if there are any; a sentence."""
    if any(url.rpartition(":")[0] not in LOOPBACK for url in urls):
        return "the server is on another machine"
    ports = {(int(url.rpartition(":")[2]),) for url in urls}
    theirs = _cores_behind(ports)
    if not theirs:
        return "whose cores the server runs on is not known; the generator may share them"
    ours = os.sched_getaffinity(0)
    if spare := ours - theirs:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), spare)
        return f"the generator ran on cores {_listed(spare)}, the server on {_listed(theirs)}"
    return (
        f"the generator ran on the server's own cores, {_listed(theirs)}, and took its time from them;"
        " `taskset --cpu-list CORES footfall serve ...` would leave it some"
    )


def _cores_behind(ports: Collection[tuple[int]]) -> set[int]:
    """The cores of the processes that listen on the ports; none where the system does not say who does."""
    cores: set[int] = set()
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] in ports and connection.pid:
            cores |= os.sched_getaffinity(connection.pid)
    return cores


def _listed(cores: set[int]) -> str:
    return ",".join(map(str, sorted(cores)))
