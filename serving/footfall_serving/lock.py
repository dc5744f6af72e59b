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
TRIAL_LOCK = ".trial.lock"
SERVE_LOCK = ".serve.lock"
WHOLE_FILE, FREE_FILE = (
    struct.pack("hhqqi", kind, os.SEEK_SET, 0, 0, 0) for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK)
)
"""struct flock of <fcntl.h>: type, whence, start, length, process."""


class BusyError(InputError):
    """Another holds the lock."""


class Lock:
    """A lock that is held."""

    def __init__(self, file: IO[str], sentence: str) -> None:
        self._file, self._sentence = file, sentence

    def take(self, wait_s: float) -> None:
        """Raises BusyError after `wait_s`."""
        deadline = time.monotonic() + wait_s
        while not self._taken():
            if time.monotonic() >= deadline:
                raise BusyError(self._sentence)
            time.sleep(0.05)

    @contextmanager
    def let_go(self, wait_s: float) -> Iterator[None]:
        """Others may take it in the block; behind it it is held again. Raises BusyError `wait_s` after the block."""
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, FREE_FILE)
        try:
            yield
        finally:
            self.take(wait_s)

    def _taken(self) -> bool:
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, WHOLE_FILE)
        except BlockingIOError:
            return False
        return True


@contextmanager
def locked(repository: Path, wait_s: float = 0.0) -> Iterator[Lock]:
    """Hold the lock of who has a server load: a publish, a rollback, the start of a server, the return of a stub.

    Raises BusyError after `wait_s`.
    """
    sentence = f"another publish or rollback is at work in {repository}, or a server is starting on it"
    with _held(repository / LOCK, sentence, wait_s) as lock:
        yield lock


@contextmanager
def publishing(repository: Path) -> Iterator[Lock]:
    """As `locked`, but not while a version is tried, whose publisher lets go of that lock meanwhile."""
    with locked(repository) as lock:
        if is_tried(repository):
            raise BusyError(
                f"another publish is at work in {repository}: it tries a version on real requests"
            )
        yield lock


@contextmanager
def tried(repository: Path) -> Iterator[None]:
    """Hold the lock of who tries a version on real requests; to be taken by who holds that of `locked`."""
    with _held(repository / TRIAL_LOCK, f"another version is tried in {repository}", 0.0):
        yield


@contextmanager
def served(repository: Path) -> Iterator[None]:
    """Hold the lock of who serves the repository, whether or not its server runs at the moment."""
    with _held(repository / SERVE_LOCK, f"{repository} is served already", 0.0):
        yield


def is_locked(repository: Path) -> bool:
    return _is_held(repository / LOCK)


def is_tried(repository: Path) -> bool:
    return _is_held(repository / TRIAL_LOCK)


def is_served(repository: Path) -> bool:
    return _is_held(repository / SERVE_LOCK)


@contextmanager
def _held(path: Path, sentence: str, wait_s: float) -> Iterator[Lock]:
    with replacing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        lock = Lock(file, sentence)
        lock.take(wait_s)
        yield lock


def _is_held(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open() as file:
        answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, WHOLE_FILE)
    return bool(struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK)
