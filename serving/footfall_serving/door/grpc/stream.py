"""Stream: one call of a caller, whose messages are put together and judged."""

from collections.abc import Callable
from functools import partial
from typing import cast

from footfall.contract import ITEM_ID
from footfall_serving.door.grpc.inference import check, named, version_of
from footfall_serving.door.grpc.refused import Refused, Status
from footfall_serving.door.ids import chosen
from footfall_serving.door.limits import MAX_BODY_BYTES, STREAM_BYTES
from footfall_serving.door.rollout import NAMED
from footfall_serving.door.seen import GONE, Asked, Seen
from footfall_serving.door.turns import Turn

INFERENCE = ITEM_ID.name.encode()
"""In every message that asks for one, and in none of another method."""
PREFIX = 5
"""Bytes before a message: whether it is compressed, and its length."""


class Stream:
    """`begun` once headers of the server's answer have passed, `ended` once the caller has sent all, `held` what it
    takes up here and in the server, `refused` the reason that its caller is still to be told, `asks` once it asked
    for an inference, `id` what that is called, `inference` until it is done, `turn` until it is answered, `kept` the
    frames that wait for the turn.
    """

    __slots__ = (
        *("_message", "_need", "_seen", "asks", "begun", "ended", "held", "id"),
        *("inference", "kept", "refused", "since", "turn"),
    )

    def __init__(self, seen: Seen, *, ended: bool) -> None:
        self._seen, self.id = seen, ""
        self.inference: Asked | None = None
        self._message: bytes | bytearray = b""
        self._need = PREFIX
        self.begun, self.ended = False, ended
        self.asks = False
        self.turn: Turn | None = None
        self.kept = b""
        self.held = STREAM_BYTES
        self.refused: Refused | None = None
        self.since: float | None = None
        """When a message began that is not whole yet."""

    def take(self, data: bytes, place: int, stop: int, now: float) -> None:
        """Of a DATA frame; raises Refused where a message of it may not pass."""
        while place < stop:
            if not self._message and stop - place >= PREFIX:
                whole = place + PREFIX + _length(data, place)
                if whole <= stop:
                    self._judge(data[place + PREFIX : whole])
                    self.held = STREAM_BYTES + whole - place
                    place = whole
                    continue
            place = self._add(data, place, stop, now)

    def asked(self, data: bytes, place: int, stop: int) -> bytes | None:
        """The inference of the live version that a DATA frame is all of, to be taken next; of more than a frame the
        server has the beginning before the end comes.
        """
        if self.refused is not None or self.since is not None or not data.startswith(NAMED, place + PREFIX):
            return None
        whole = int.from_bytes(data[place + 1 : place + PREFIX]) == stop - place - PREFIX
        return data[place + PREFIX : stop] if whole and INFERENCE in data[place:stop] else None

    def _add(self, data: bytes, place: int, stop: int, now: float) -> int:
        """To a message that came in parts; returns the place behind what was added."""
        if not self._message:
            self._message, self._need, self.since = bytearray(), PREFIX, now
        message = cast(bytearray, self._message)
        end = min(stop, place + self._need - len(message))
        message += memoryview(data)[place:end]
        self.held = STREAM_BYTES + len(message)
        if len(message) == PREFIX == self._need:
            self._need += _length(message, 0)
        if len(message) == self._need:
            self._judge(bytes(memoryview(message)[PREFIX:]))
            self._message, self.since = b"", None
        return end

    def _judge(self, message: bytes) -> None:
        check(message)
        if not self.asks and INFERENCE in message:
            self.asks = True
            model, name = named(message)
            self.id = chosen(name)
            self.inference = self._seen.take("grpc", self.id, model)

    def goes(self) -> bool:
        """The server has what it asks, or is about to."""
        if self.inference is not None and not self.inference.sent:
            self._seen.send(self.inference)
        return True

    def refuse(self, refused: Refused) -> None:
        self.refused = refused
        if self.inference is None:
            self._seen.refuse("grpc", refused.status.name)
        else:
            self._done(refused.status.name)

    def answer(self, data: bytes, place: int) -> None:
        """The server's, of which a message begins at `place`."""
        end = place + PREFIX + int.from_bytes(data[place + 1 : place + PREFIX])
        self._done("OK", partial(version_of, data[place + PREFIX : end]))

    def over(self, *, done: bool) -> None:
        """Without an answer, if there was none before; `done` where the server says so."""
        self._done("ERROR" if done else GONE)

    def _done(self, status: str, version: Callable[[], int | None] = lambda: None) -> None:
        inference, self.inference = self.inference, None
        if inference is not None:
            self._seen.done(inference, status, version)


def _length(data: bytes | bytearray, place: int) -> int:
    """Of the message whose prefix is at `place`. Raises Refused."""
    if data[place]:
        raise Refused(Status.UNIMPLEMENTED, "compressed messages are not taken over gRPC: send it as it is")
    length = int.from_bytes(data[place + 1 : place + PREFIX])
    if length > MAX_BODY_BYTES:
        raise Refused(
            Status.RESOURCE_EXHAUSTED, f"the message is {length} bytes, at most {MAX_BODY_BYTES} are taken"
        )
    return length
