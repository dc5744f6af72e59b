"""Locks of a model repository: who changes it does so alone, and who serves it is known to the verbs.

Both are locks of an open file, not process ids: they hold across the containers that share a disk, and the kernel
lets go of them when their holder dies. Asking who holds one takes none.
"""

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from footfall.errors import InputError
from footfall.folder import replacing

LOCK = ".publish.lock"
SERVE_LOCK = ".serve.lock"
WHOLE_FILE = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
"""struct flock of <fcntl.h>: type, whence, start, length, process."""


class BusyError(InputError):
    """Another holds the lock."""


@contextmanager
def locked(repository: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of who publishes, rolls back or starts a server. Raises BusyError after `wait_s`."""
    sentence = f"another publish or rollback is at work in {repository}, or a server is starting on it"
    with _held(repository / LOCK, sentence, wait_s):
        yield


@contextmanager
def served(repository: Path) -> Iterator[None]:
    """Hold the lock of who serves the repository, whether or not its server runs at the moment."""
    with _held(repository / SERVE_LOCK, f"{repository} is served already", 0.0):
        yield


def is_locked(repository: Path) -> bool:
    return _is_held(repository / LOCK)


def is_served(repository: Path) -> bool:
    return _is_held(repository / SERVE_LOCK)


@contextmanager
def _held(path: Path, sentence: str, wait_s: float) -> Iterator[None]:
    with replacing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        deadline = time.monotonic() + wait_s
        while not _take(file):
            if time.monotonic() >= deadline:
                raise BusyError(sentence)
            time.sleep(0.05)
        yield


def _take(file: IO[str]) -> bool:
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, WHOLE_FILE)
    except BlockingIOError:
        return False
    return True


def _is_held(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open() as file:
        answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, WHOLE_FILE)
    return bool(struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK)
