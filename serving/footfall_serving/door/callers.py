"""Callers: every connection of the door, over either protocol, and what they hold together."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from footfall.contract import MAX_INFERENCES
from footfall_serving.door.drain import QUIET_S, drain_file, drained_file
from footfall_serving.door.hold import hold_file, idle_file, is_held
from footfall_serving.door.limits import AT_ONCE, FREE_BYTES, MAX_CONNECTIONS, MAX_HELD_BYTES, MAX_SECONDS
from footfall_serving.door.rollout import Rollout
from footfall_serving.door.seen import Seen
from footfall_serving.door.turns import Turn, Turns

LOOK_S = 0.002
"""Between two looks for whether callers are held, beside that of an end."""


class Caller(Protocol):
    """One connection: `busy` while the server works for it, `since` when it last began or ended something."""

    @property
    def busy(self) -> bool: ...

    @property
    def since(self) -> float: ...

    @property
    def under_way(self) -> bool:
        """Whether something has begun to arrive, or is not answered."""

    def refuse_slow(self, began: float) -> None:
        """Refuse what has been arriving since before `began`, and whose deadline has passed."""

    def send_away(self, *, last: bool) -> None:
        """Have it make no further request on this connection; `last` where none that it has made is answered."""

    def close(self) -> None: ...


class Callers:
    """All connections, the bytes that requests of theirs take up here and in the server, and their inferences."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_inferences: int = MAX_INFERENCES,
        grpc_file: str = "nobody asks",
    ) -> None:
        self.loop = loop
        self.held = 0
        self._turns = Turns(max_inferences, min(max_inferences, AT_ONCE))
        self._hold = hold_file(grpc_file)
        self._is_held, self._look_at = False, 0.0
        self._connections: set[Caller] = set()
        self._drain, self._drained = drain_file(grpc_file), drained_file(grpc_file)
        self._asked_at = loop.time()
        self.is_draining = False
        self.rollout = Rollout()
        self.seen = Seen(time.monotonic)

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
        now = self.loop.time()
        if now >= self._look_at:
            self._is_held, self._look_at = is_held(self._hold), now + LOOK_S
        held = self._is_held
        if held and not self.inferences:
            idle_file(self._hold).touch()
        return held

    @property
    def inferences(self) -> int:
        """That the server works on, or that wait for their turn."""
        return self._turns.under_way

    def begin(self, go: Callable[[], bool]) -> Turn | None:
        """Take a turn for an inference (see Turns.take), to be ended or left."""
        self._asked_at = self.loop.time()
        return self._turns.take(go)

    def end(self, turn: Turn) -> None:
        self._turns.end(turn)
        self._tell_if_idle()

    def leave(self, turn: Turn) -> None:
        self._turns.leave(turn)
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if not self.inferences:
            self._look_at = 0.0
            self.wait()

    def text(self) -> str:
        """What there is to see, for Prometheus."""
        return self.seen.text(self.inferences, len(self._connections), self.held)

    def look(self) -> None:
        """To be called every second: refuse who is slow or whose time is over."""
        began = self.loop.time() - MAX_SECONDS
        for connection in list(self._connections):
            connection.refuse_slow(began)

    def drain(self) -> bool:
        """To be called every second: whether it was to drain, and nobody comes any more. Then all are sent away."""
        if not self.is_draining:
            if not self._drain.exists():
                return False
            self.is_draining, self._asked_at = True, self.loop.time()
        for connection in self._connections:
            connection.send_away(last=False)
        if self.loop.time() - self._asked_at < QUIET_S or any(one.under_way for one in self._connections):
            return False
        for connection in list(self._connections):
            connection.send_away(last=True)
            connection.close()
        return True

    def tell_drained(self) -> None:
        self._drained.touch()
