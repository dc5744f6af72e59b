"""Callers: every connection of the door, over either protocol, and what they hold together."""

import asyncio
from pathlib import Path
from typing import Protocol

from footfall.contract import MAX_INFERENCES
from footfall_serving.door.hold import idle_file, is_held
from footfall_serving.door.limits import FREE_BYTES, MAX_CONNECTIONS, MAX_HELD_BYTES, MAX_SECONDS


class Caller(Protocol):
    """One connection: `busy` while the server works for it, `since` when it last began or ended something."""

    @property
    def busy(self) -> bool: ...

    @property
    def since(self) -> float: ...

    def refuse_slow(self, began: float) -> None:
        """Refuse what has been arriving since before `began`."""

    def close(self) -> None: ...


class Callers:
    """All connections, the bytes that requests of theirs take up here and in the server, and the inferences that the
    server works on for them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_inferences: int = MAX_INFERENCES,
        hold: Path = Path("nobody holds"),
    ) -> None:
        self.loop = loop
        self.held = 0
        self.inferences = 0
        self._max_inferences = max_inferences
        self._hold = hold
        self._connections: set[Caller] = set()

    def add(self, connection: Caller) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            min(self._connections, key=lambda other: (other.busy, other.since)).close()
        self._connections.add(connection)

    def remove(self, connection: Caller) -> None:
        self._connections.discard(connection)

    def hold(self, change: int, held: int) -> bool:
        """Count a change; False where all hold too much, and the one that now holds `held` more than its share."""
        self.held += change
        return held <= FREE_BYTES or self.held <= MAX_HELD_BYTES

    def wait(self) -> bool:
        """Whether what they ask is to wait; tells who holds them once nothing is under way."""
        held = is_held(self._hold)
        if held and not self.inferences:
            idle_file(self._hold).touch()
        return held

    def begin(self) -> bool:
        """Count one inference more, to be ended; False where as many as may are under way."""
        begins = self.inferences < self._max_inferences
        self.inferences += begins
        return begins

    def end(self) -> None:
        self.inferences -= 1
        if not self.inferences:
            self.wait()

    def refuse_slow(self) -> None:
        began = self.loop.time() - MAX_SECONDS
        for connection in list(self._connections):
            connection.refuse_slow(began)
