"""The lock of a model repository: who publishes, rolls back or starts a server does so alone."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from footfall.errors import InputError
from footfall.folder import replacing

LOCK = ".publish.lock"


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Hold the repository's lock; the kernel lets go of it when its holder dies."""
    with replacing(repository / LOCK):
        repository.mkdir(parents=True, exist_ok=True)
        file = (repository / LOCK).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another publish or rollback is at work in {repository}, or a server is starting on it"
            ) from None
        yield
