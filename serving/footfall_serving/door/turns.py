"""Turns: the inferences that the server works on, and those that wait here until it is their turn.

Server 2.51 computes what lies in its queue although the caller has left or the deadline has passed: the steps of an
ensemble are not told. So few lie there; the others wait here, and who leaves before its turn is never sent. Who
leaves later is counted until the server has answered, as it is never told that a caller left: else callers of short
deadlines would fill that queue without end, each making room for the next by leaving.
"""

from collections import deque
from collections.abc import Callable


class Turn:
    """One inference; `go` sends it to the server, or returns False where nobody waits for it any more."""

    __slots__ = ("go", "waits")

    def __init__(self, go: Callable[[], bool], *, waits: bool) -> None:
        self.go, self.waits = go, waits


class Turns:
    """At most `most` under way, of which the server has at most `at_once`."""

    def __init__(self, most: int, at_once: int) -> None:
        self._most, self._at_once = most, at_once
        self._waiting: deque[Turn] = deque()
        self._sent = 0

    @property
    def under_way(self) -> int:
        """Inferences that the server works on or that wait here."""
        return self._sent + len(self._waiting)

    def take(self, go: Callable[[], bool]) -> Turn | None:
        """A turn. It has come, and is to be ended; or it waits, `go` will be called, and it may be left before.

        None: too many are under way.
        """
        if self.under_way >= self._most:
            return None
        turn = Turn(go, waits=self._sent >= self._at_once)
        if turn.waits:
            self._waiting.append(turn)
        else:
            self._sent += 1
        return turn

    def end(self, turn: Turn) -> None:
        """The server is done with it."""
        assert not turn.waits
        self._sent -= 1
        while self._waiting and self._sent < self._at_once:
            following = self._waiting.popleft()
            following.waits = False
            self._sent += following.go()

    def leave(self, turn: Turn) -> None:
        """Nobody waits any more for what the server does not have yet."""
        self._waiting.remove(turn)
