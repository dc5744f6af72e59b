"""Callers: every connection of the door, over either protocol, and what they hold together."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from footfall.contract import MAX_INFERENCES
from footfall_serving.door.hold import idle_file, is_held
from footfall_serving.door.limits import AT_ONCE, FREE_BYTES, MAX_CONNECTIONS, MAX_HELD_BYTES, MAX_SECONDS
from footfall_serving.door.rollout import Rollout
from footfall_serving.door.turns import Turn, Turns


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
    """All connections, the bytes that requests of theirs take up here and in the server, and their inferences."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_inferences: int = MAX_INFERENCES,
        hold: Path = Path("nobody holds"),
    ) -> None:
        self.loop = loop
        self.held = 0
        self._turns = Turns(max_inferences, min(max_inferences, AT_ONCE), loop.time)
        self._hold = hold
        self._connections: set[Caller] = set()
        self.rollout = Rollout()

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

    @property
    def inferences(self) -> int:
        """For whose answers they wait."""
        return self._turns.wanted

    def begin(self, go: Callable[[], None]) -> Turn | None:
        """Take a turn for an inference (see Turns.take), to be ended or left."""
        return self._turns.take(go)

    def end(self, turn: Turn, *, answered: bool) -> None:
        self._turns.end(turn, answered=answered)
        self._tell_if_idle()

    def leave(self, turn: Turn) -> None:
        self._turns.leave(turn)
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if not self.inferences:
            self.wait()

    def look(self) -> None:
        """To be called every second: refuse who is slow, go on with who waits."""
        self._turns.go_on()
        began = self.loop.time() - MAX_SECONDS
        for connection in list(self._connections):
            connection.refuse_slow(began)
