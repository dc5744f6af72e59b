"""Stream: one call of a caller, whose messages are put together and judged."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from footfall.contract import ITEM_ID
from footfall_serving.door.grpc.flow import Flow
from footfall_serving.door.grpc.inference import check, named, version_of
from footfall_serving.door.grpc.refused import Refused, Status
from footfall_serving.door.ids import chosen
from footfall_serving.door.limits import MAX_BODY_BYTES, STREAM_BYTES
from footfall_serving.door.seen import GONE, Asked, Seen
from footfall_serving.door.turns import Turn

if TYPE_CHECKING:
    from footfall_serving.door.grpc.connection import Connection
    from footfall_serving.door.grpc.line import Line

INFERENCE = ITEM_ID.name.encode()
"""In every message that asks for one, and in none of another method."""
PREFIX = 5
"""Bytes before a message: whether it is compressed, and its length."""


class Stream:
    """`caller` until it has left or was told the end; `headers` for the server, `deadline` by the loop's clock,
    `kept` the messages that the server is to have, `ended` once nothing follows them, `told` once the server knows
    that; `line` and `up` once that knows of the call, `down` what the caller is told; `begun` once headers of an
    answer have passed; `held` what it takes up here and in the server; `asks` once it asked for an inference, `id`
    what that is called, `inference` until it is done, `turn` until it is answered; `since` when a message began that
    is not whole yet.
    """

    __slots__ = (
        "_message",
        "_need",
        "_seen",
        "asks",
        "begun",
        "caller",
        "deadline",
        "down",
        "ended",
        "headers",
        "held",
        "id",
        "inference",
        "kept",
        "line",
        "since",
        "told",
        "turn",
        "up",
    )

    def __init__(self, caller: "Connection", down: Flow, seen: Seen) -> None:
        self._seen, self.id = seen, ""
        self.inference: Asked | None = None
        self.caller: Connection | None = caller
        self.headers, self.deadline = b"", math.inf
        self.line: Line | None = None
        self.up: Flow | None = None
        self.down = down
        self.begun = self.ended = self.told = self.asks = False
        self.turn: Turn | None = None
        self.kept: list[bytes] = []
        self.held = STREAM_BYTES
        self.since: float | None = None
        self._message: bytes | bytearray = b""
        self._need = PREFIX

    def take(self, data: bytes, place: int, stop: int, now: float) -> None:
        """Of a DATA frame; raises Refused where a message of it may not pass."""
        self.held += stop - place
        while place < stop:
            if not self._message and stop - place >= PREFIX:
                whole = place + PREFIX + _length(data, place)
                if whole <= stop:
                    self._judge(data[place:whole])
                    place = whole
                    continue
            place = self._add(data, place, stop, now)

    def answered(self) -> None:
        """The server no longer works on what it asked; of several inferences on one stream that is the first."""
        self.held = STREAM_BYTES + len(self._message) + (0 if self.up is None else len(self.up.waiting))

    def _add(self, data: bytes, place: int, stop: int, now: float) -> int:
        """To a message that came in parts; returns the place behind what was added."""
        if not self._message:
            self._message, self._need, self.since = bytearray(), PREFIX, now
        message = cast(bytearray, self._message)
        end = min(stop, place + self._need - len(message))
        message += memoryview(data)[place:end]
        if len(message) == PREFIX == self._need:
            self._need += _length(message, 0)
        if len(message) == self._need:
            self._judge(bytes(message))
            self._message, self.since = b"", None
        return end

    def _judge(self, message: bytes) -> None:
        check(message[PREFIX:])
        if not self.asks and INFERENCE in message:
            self.asks = True
            model, name = named(message[PREFIX:])
            self.id = chosen(name)
            self.inference = self._seen.take("grpc", self.id, model)
        self.kept.append(message)

    def goes(self) -> None:
        """The server has what it asks, or is about to."""
        if self.inference is not None and not self.inference.sent:
            self._seen.send(self.inference)

    def refuse(self, refused: Refused) -> None:
        if self.inference is None:
            self._seen.refuse("grpc", refused.status.name)
        else:
            self._done(refused.status.name)

    def answer(self, data: bytes) -> None:
        """The server's, which begins with a message."""
        end = PREFIX + int.from_bytes(data[1:PREFIX])
        self._done("OK", partial(version_of, data[PREFIX:end]))

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
