"""Busy: since when a stub is at a batch, told in shared memory to who supervises it.

A model of several instances answers the heartbeat though one of them hangs.
"""

import os
import struct
import time
from pathlib import Path
from types import TracebackType

from footfall_serving.stubs import SHARED_MEMORY

SINCE = struct.Struct("<d")


class Busy:
    """A context manager around each batch of this process, which is a stub."""

    def __init__(self) -> None:
        region = Path("/proc/self/cmdline").read_text().split("\0")[2]
        self._path = _path(region)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._write(0.0)

    def __enter__(self) -> None:
        self._write(time.monotonic())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write(0.0)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _write(self, since: float) -> None:
        os.pwrite(self._file, SINCE.pack(since), 0)


def busy_since(region: str) -> float:
    """By time.monotonic(), of the stub whose shared-memory region that is; 0 where it waits for a batch."""
    try:
        return float(SINCE.unpack(_path(region).read_bytes())[0])
    except (OSError, struct.error):  # not there yet, or no longer
        return 0.0


def _path(region: str) -> Path:
    return SHARED_MEMORY / f"{region}.busy"
