"""Line: a caller's own connection to the server, and what comes back on it, frame by frame."""

import asyncio
from typing import TYPE_CHECKING, cast

from footfall.contract import REQUEST_ID
from footfall_serving.door.callers import Callers
from footfall_serving.door.grpc.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    LAST_STREAM,
    PING,
    RST_STREAM,
    Frames,
    frame,
    goaway,
)
from footfall_serving.door.grpc.refused import header

if TYPE_CHECKING:
    from footfall_serving.door.grpc.connection import Connection

LARGEST_FRAME = 2**24 + HEAD.size
STRAY = b"\x00\x07:status"
"""How headers begin that server 2.51 sends for a call it was told is cancelled, or whose deadline has passed. They
enter no table, and may be lost; of its real answers none begins so.
"""
MARK = b"door"
"""How pings of the door begin; the number of a stream follows."""
YES, NO = b"\0\0\0\0\x02\x08\x01", b"\0"
"""What all of an answer says of who is ready or serves, in the field 1, and what its last byte says of who is not."""


class Line(asyncio.Protocol):
    """What the server sends to one caller, frame by frame."""

    def __init__(self, connection: "Connection", callers: Callers) -> None:
        self._connection, self._callers = connection, callers
        self._frames = Frames(LARGEST_FRAME, LARGEST_FRAME)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._connection.close()

    def pause_writing(self) -> None:
        self._connection.pause_reading()

    def resume_writing(self) -> None:
        self._connection.resume_reading()

    def send_away(self, last_stream: int | None) -> None:
        """Tell the caller to make no new call here; None: but what is on its way is taken, RFC 9113, section 6.8."""
        self._connection.transport.write(goaway(LAST_STREAM if last_stream is None else last_stream))

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        data, frames = self._frames.take(data)
        passed: list[bytes] = []
        start = 0
        for kind, flags, number, place, stop in frames:
            name = self._name(number) if kind == HEADERS else ""
            if kind == PING and flags & ACK and data.startswith(MARK, place + HEAD.size):
                passed += data[start:place], self._refusal(data[stop - 4 : stop])
                start = stop
            elif kind in (HEADERS, DATA, RST_STREAM) and not self._passes(
                kind, flags, number, data, place + HEAD.size
            ):
                passed.append(data[start:place])
                start = stop
            elif self._callers.is_draining and kind == DATA and data[place + HEAD.size : stop] == YES:
                passed += data[start : stop - 1], NO
                start = stop
            elif name and flags & END_HEADERS:
                block = data[place + HEAD.size : stop] + header(REQUEST_ID.encode(), name.encode())
                passed += data[start:place], frame(HEADERS, flags, number, block)
                start = stop
        passed.append(data[start:] if start else data)
        connection.transport.write(passed[0] if len(passed) == 1 else b"".join(passed))

    def _passes(self, kind: int, flags: int, number: int, data: bytes, place: int) -> bool:
        """Whether the caller is to have this: not what the server says of a call that it was told is cancelled."""
        stream = self._connection.streams.get(number)
        cancelled = kind == RST_STREAM or (kind == HEADERS and data.startswith(STRAY, place))
        if cancelled and (stream is None or stream.refused is not None):
            return False
        if kind == RST_STREAM or flags & END_STREAM:
            self._connection.end(number, done=not cancelled)
        elif stream is not None:
            stream.begun = True
            if kind == DATA:
                stream.answer(data, place)
                self._connection.answered(stream)
        return True

    def _name(self, number: int) -> str:
        """What an inference is called whose caller has not been told anything yet."""
        stream = self._connection.streams.get(number)
        return "" if stream is None or stream.begun else stream.id

    def _refusal(self, stream: bytes) -> bytes:
        """What the caller is told now that the server says no more of the call."""
        number = int.from_bytes(stream)
        stream_ = self._connection.end(number)
        if stream_ is None or stream_.refused is None:
            return b""
        return stream_.refused.answer(number, begun=stream_.begun, ended=stream_.ended, name=stream_.id)
