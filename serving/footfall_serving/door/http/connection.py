"""Connection: one caller of the door; its requests are read, checked and answered one after the other."""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import cast

from footfall.contract import ENSEMBLE, OVERLOADED, REQUEST_ID
from footfall_serving.door.callers import Callers
from footfall_serving.door.hold import LOOK_S
from footfall_serving.door.http.answer import status_of, version_of
from footfall_serving.door.http.body import Chunks, unpacked
from footfall_serving.door.http.head import Head, read_head
from footfall_serving.door.http.inference import checked, who
from footfall_serving.door.http.refused import LINE_END, Refused
from footfall_serving.door.http.upstream import Upstream
from footfall_serving.door.limits import MAX_BODY_BYTES, MAX_HEAD_BYTES, MAX_SECONDS
from footfall_serving.door.rollout import CANDIDATE, HTTP, PATH
from footfall_serving.door.seen import GONE, Asked
from footfall_serving.door.turns import Turn

READY = b"/ready"
"""The end of the paths that ask whether the server or a model is."""
DRAINS = "the server is about to end; ask another"
CLOSE = LINE_END.encode(), b"\r\nConnection: close\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """`busy` while the server works on a request; `since` when the last began or was answered."""

    def __init__(self, callers: Callers, upstream: Upstream) -> None:
        self._callers, self._upstream = callers, upstream
        self._buffer = bytearray()
        self._head: Head | None = None
        self._chunks: Chunks | None = None
        self._held = 0
        self._writable = True
        self._closing = False
        self._dropped = 0
        self.busy = False
        self._turn: Turn | None = None
        self._asked: Asked | None = None
        self.since = callers.loop.time()

    @property
    def is_reading(self) -> bool:
        return not self.busy and not self._closing and (self._head is not None or bool(self._buffer))

    @property
    def under_way(self) -> bool:
        return self.busy or self.is_reading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._callers.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._buffer.clear()
        self._chunks = None
        self._hold()
        if self._turn is not None and self._turn.waits:
            self._callers.leave(self._turn)
            self._turn = None
        if self._asked is not None:
            self._callers.seen.done(self._asked, GONE)
            self._asked = None
        self._callers.remove(self)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._go_on()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._dropped += len(data)
            if self._dropped > MAX_BODY_BYTES:
                self._transport.abort()
            return
        if not self.is_reading:
            self.since = self._callers.loop.time()
        self._buffer += data
        self._go_on()
        if self.busy and len(self._buffer) > MAX_HEAD_BYTES:
            self._transport.pause_reading()

    def refuse_slow(self, began: float) -> None:
        if self.since >= began:
            return
        if self._closing:  # refused, and its caller has not gone yet, or does not read
            self._transport.abort()
        elif self.is_reading:
            sentence = f"the request took more than {MAX_SECONDS:.0f} s to arrive"
            self.refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, sentence))

    def refuse(self, refused: Refused) -> None:
        """Answer, and take no more requests: where one that is not whole ends is not known.

        What still comes is dropped, not met by a closed socket: the system would then throw the answer away too.
        """
        self._closing = True
        self._callers.seen.refuse("http", str(refused.status.value))
        self._transport.write(refused.answer(last=True))
        self._transport.write_eof()
        self._buffer.clear()
        self._head = self._chunks = None
        self._hold()

    def send_away(self, *, last: bool) -> None:
        """Its next answer does."""

    def close(self) -> None:
        self._closing = True
        self._transport.close()

    def _go_on(self) -> None:
        if self._callers.wait():
            self._transport.pause_reading()
            self._callers.loop.call_later(LOOK_S, self._go_on_after_hold)
            return
        try:
            while not self.busy and self._writable and not self._closing:
                request = self._take()
                if request is None:
                    break
                self._ask(*request)
            self._hold()
        except Refused as refused:
            self.refuse(refused)

    def _go_on_after_hold(self) -> None:
        if not self._closing:
            self._transport.resume_reading()
            self._go_on()

    def _take(self) -> tuple[Head, bytes] | None:
        """The next whole request of the buffer."""
        buffer = self._buffer
        head = self._head
        if head is None:
            end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
            if end < 0:
                if len(buffer) >= MAX_HEAD_BYTES:
                    raise Refused(
                        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                        f"the request's head is longer than {MAX_HEAD_BYTES} bytes",
                    )
                return None
            head = self._head = read_head(bytes(buffer[:end]))
            del buffer[: end + 4]
            self._chunks = Chunks() if head.length is None else None
            if head.expects and not buffer:
                self._transport.write(CONTINUE)
        if self._chunks is not None:
            body = self._chunks.take(buffer)
            if body is None:
                return None
        else:
            size = head.length or 0
            if len(buffer) < size:
                return None
            body = bytes(buffer[:size])
            del buffer[:size]
        self._head = self._chunks = None
        return head, body

    def _ask(self, head: Head, body: bytes) -> None:
        self._keep = head.keep
        json_length = None
        try:
            if self._callers.is_draining and head.path.endswith(READY):
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, DRAINS)
            body = unpacked(body, head.coding)
            if head.infers:
                body, json_length, id_ = checked(body, head.json_length, head.request_id)
                self._asked = self._callers.seen.take("http", id_, head.path.split(b"/")[3].decode())
                if self._callers.rollout.is_on and head.path == PATH + b"/infer":
                    self._try(head, body, len(body) if json_length is None else json_length)
            ask = partial(self._send, head.request(body, json_length))
            if head.infers:
                self._turn = self._callers.begin(ask)
                if self._turn is None:
                    raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, OVERLOADED)
        except Refused as refused:
            if self._asked is None and head.infers:
                self._callers.seen.refuse("http", str(refused.status.value))
            self._answer(refused.answer(last=False))
            return
        self.busy = True
        if self._turn is None or not self._turn.waits:
            ask()

    def _send(self, request: bytes) -> bool:
        if self._asked is not None:
            self._callers.seen.send(self._asked)
        self._upstream.ask(request, self._take_answer)
        return True

    def _try(self, head: Head, body: bytes, json_length: int) -> None:
        """While a version is tried."""
        rollout = self._callers.rollout
        if rollout.sends(who(body, json_length)):
            head.path = head.path.replace(PATH, PATH.replace(ENSEMBLE.encode(), CANDIDATE))
        rollout.copy(HTTP, body, json_length)

    def _take_answer(self, answer: bytes) -> None:
        self.busy = False
        if self._turn is not None:
            turn, self._turn = self._turn, None
            self._callers.end(turn)
        if not self._closing:
            self._answer(answer)
            self._transport.resume_reading()
            self._go_on()

    def _answer(self, answer: bytes) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self._callers.seen.done(asked, status_of(answer), partial(version_of, answer))
            name = f"\r\n{REQUEST_ID}: {asked.id}\r\n"
            answer = answer.replace(b"\r\n", name.encode(), 1)
        if self._callers.is_draining:
            self._keep = False
        self._transport.write(answer if self._keep else answer.replace(*CLOSE, 1))
        self.since = self._callers.loop.time()
        if not self._keep:
            self.close()

    def _hold(self) -> None:
        """Count what this one holds. Raises Refused where all hold too much and this one more than FREE_BYTES."""
        held = len(self._buffer) + (0 if self._chunks is None else len(self._chunks.body))
        change, self._held = held - self._held, held
        if not self._callers.hold(change, held) and not self._closing:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many large requests arrive at once; try again")
