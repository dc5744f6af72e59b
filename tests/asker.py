"""Asker: a client that asks a server on and on, while a test does something to it."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from typing import Protocol as Interface

from conftest import eventually

from footfall_client import Client, Recommendation
from footfall_client._settings import Protocol


class Asks(Interface):
    """A thread that asks until `ended`."""

    ended: threading.Event
    answers: list[Recommendation]

    def start(self) -> None: ...
    def join(self) -> None: ...


@contextlib.contextmanager
def running(askers: Sequence[Asks]) -> Iterator[None]:
    """From before the block, each answered once, until after it, each answered again."""
    for asker in askers:
        asker.start()
    try:
        assert eventually(lambda: all(asker.answers for asker in askers))
        yield
        counts = [len(asker.answers) for asker in askers]
        assert eventually(
            lambda: all(len(asker.answers) > count for asker, count in zip(askers, counts, strict=True))
        )
    finally:
        for asker in askers:
            asker.ended.set()
        for asker in askers:
            asker.join()


class Asker(threading.Thread):
    """Asks without a pause until `ended`, and keeps the answers and what failed."""

    def __init__(
        self,
        url: str,
        ask: Callable[[Client], Recommendation],
        protocol: Protocol = "grpc",
        **options: Any,
    ) -> None:
        super().__init__()
        self._url, self._protocol, self._ask = url, protocol, ask
        self._options: dict[str, Any] = {"retries": 0, "timeout": 30} | options
        self.ended = threading.Event()
        self.answers: list[Recommendation] = []
        self.failures: list[Exception] = []

    def run(self) -> None:
        with Client(self._url, self._protocol, **self._options) as client:
            while not self.ended.is_set():
                try:
                    self.answers.append(self._ask(client))
                except Exception as error:  # whatever it is, it failed the test
                    self.failures.append(error)
