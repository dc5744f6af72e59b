"""Hold: callers wait at the door for the moment in which no version can answer. Files beside the sockets say so."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

LONGEST_S = 20.0
"""A file that is older was left by who was killed. Its time is that of the clock that nobody sets."""
LOOK_S = 0.02
UNDER_WAY_S = 3.0
"""Of waiting for the answers to what passed before; nobody tells where nobody asks."""


def hold_file(grpc_file: str) -> Path:
    """Beside the server's socket, in the door's folder."""
    return Path(grpc_file).with_name("hold")


def idle_file(hold: Path) -> Path:
    """The door's answer, that the server works on nothing."""
    return hold.with_name("idle")


@contextlib.contextmanager
def held(grpc_file: str) -> Iterator[None]:
    """Callers wait at the door until the block ends, LONGEST_S at most; it begins once nothing is under way."""
    hold = hold_file(grpc_file)
    idle_file(hold).unlink(missing_ok=True)
    begin(hold)
    try:
        deadline = time.monotonic() + UNDER_WAY_S
        while not idle_file(hold).exists() and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        yield
    finally:
        hold.unlink(missing_ok=True)


def begin(hold: Path) -> None:
    """By a file that has its time before it has its name."""
    aside, now = hold.with_name("hold.partial"), time.monotonic_ns()
    aside.touch()
    os.utime(aside, ns=(now, now))
    aside.replace(hold)


def is_held(hold: Path) -> bool:
    try:
        return 0 <= time.monotonic() - hold.stat().st_mtime < LONGEST_S
    except OSError:
        return False
