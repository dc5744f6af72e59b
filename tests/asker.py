"""Asker: a client that asks a server on and on, while a test does something to it."""

import threading
from collections.abc import Callable

from footfall_client import Client, Recommendation
from footfall_client._settings import Protocol


class Asker(threading.Thread):
    """Asks without a pause until `ended`, and keeps the answers and what failed."""

    def __init__(
        self, url: str, ask: Callable[[Client], Recommendation], protocol: Protocol = "grpc"
    ) -> None:
        super().__init__()
        self._url, self._protocol, self._ask = url, protocol, ask
        self.ended = threading.Event()
        self.answers: list[Recommendation] = []
        self.failures: list[Exception] = []

    def run(self) -> None:
        with Client(self._url, self._protocol, retries=0, timeout=30) as client:
            while not self.ended.is_set():
                try:
                    self.answers.append(self._ask(client))
                except Exception as error:  # whatever it is, it failed the test
                    self.failures.append(error)
