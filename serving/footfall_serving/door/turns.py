"""Turns: the inferences that the server works on, and those that wait here until it is their turn.

Server 2.51 computes what lies in its queue although the caller has left or the deadline has passed: the steps of an
ensemble are not told. So few lie there; the others wait here, and who leaves before its turn is never sent. One who
leaves later is counted until the server has answered what it was sent after that, as its queue is in order. Else
callers of short deadlines would fill that queue without end, each making room for the next by leaving.
"""

from collections import deque
from collections.abc import Callable

PROBE_S = 0.1
"""Where all have left that the server was sent, one more is sent after that time: its answer will tell of them."""


class Turn:
    """One inference; `number` its place among all that the server was sent, None while it waits."""

    __slots__ = ("go", "number")

    def __init__(self, go: Callable[[], None]) -> None:
        self.go = go
        self.number: int | None = None

    @property
    def waits(self) -> bool:
        return self.number is None


class Turns:
    """At most `most` under way, of which the server has at most `at_once`; `clock` tells seconds."""

    def __init__(self, most: int, at_once: int, clock: Callable[[], float]) -> None:
        self._most, self._at_once, self._clock = most, at_once, clock
        self._waiting: deque[Turn] = deque()
        self._numbers = 0
        self._sent = 0
        self._sent_at = 0.0
        self._left: list[int] = []

    @property
    def wanted(self) -> int:
        """Inferences for whose answer somebody waits."""
        return self._sent - len(self._left) + len(self._waiting)

    def take(self, go: Callable[[], None]) -> Turn | None:
        """A turn, to be ended or left. It has come, or waits and `go` will be called; None: too many under way."""
        self.go_on()
        room = not self._waiting and self._has_room()
        if not room and self._sent + len(self._waiting) >= self._most:
            return None
        turn = Turn(go)
        if room:
            self._send(turn)
        else:
            self._waiting.append(turn)
        return turn

    def end(self, turn: Turn, *, answered: bool) -> None:
        """The server is done with it. What it refuses it may not have queued: that tells nothing of those before."""
        self._sent -= 1
        if answered and self._left:
            later = [number for number in self._left if number > (turn.number or 0)]
            self._sent -= len(self._left) - len(later)
            self._left = later
        self.go_on()

    def leave(self, turn: Turn) -> None:
        """Nobody waits for it any more, and no answer will tell that the server is done with it."""
        if turn.number is None:
            self._waiting.remove(turn)
        else:
            self._left.append(turn.number)
        self.go_on()

    def go_on(self) -> None:
        """Send whose turn it is; where all have left, time alone brings it about."""
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            self._send(turn)
            turn.go()

    def _has_room(self) -> bool:
        if self._sent < self._at_once:
            return True
        return self._sent == len(self._left) and self._clock() - self._sent_at >= PROBE_S

    def _send(self, turn: Turn) -> None:
        self._numbers += 1
        turn.number = self._numbers
        self._sent += 1
        self._sent_at = self._clock()
