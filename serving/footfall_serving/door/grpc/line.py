"""Line: the connection to the server that all callers share, and what comes back on it."""

import asyncio
from typing import TYPE_CHECKING

from footfall_serving.door.grpc.endpoint import (
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    UNREAD_BYTES,
    Endpoint,
    payload_of,
)
from footfall_serving.door.grpc.flow import LARGEST_WINDOW, Flow
from footfall_serving.door.grpc.frames import (
    DATA,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    PREFACE,
    RST_STREAM,
    Frames,
    block_of,
    headers_frames,
)
from footfall_serving.door.grpc.literal import TABLE_EMPTIED
from footfall_serving.door.grpc.stream import Stream

if TYPE_CHECKING:
    from footfall_serving.door.grpc.upstream import Upstream

LARGEST_FRAME = 2**24 + HEAD.size
TO_SERVER = {HEADER_TABLE_SIZE: 0, INITIAL_WINDOW_SIZE: LARGEST_WINDOW}
"""Without a table of headers each block of them can be read alone, by any caller."""


class Line(Endpoint):
    """It never cancels a call, and lasts as long as the server or until that asks for another one."""

    def __init__(self, upstream: "Upstream") -> None:
        super().__init__(Frames(LARGEST_FRAME, LARGEST_FRAME), UNREAD_BYTES)
        self._upstream = upstream
        self._last = -1
        self.streams: dict[int, Stream] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write(PREFACE)
        self.greet(TO_SERVER)

    def connection_lost(self, error: Exception | None) -> None:
        self._upstream.lost(self)

    def send(self, stream: Stream) -> None:
        """What is kept of the call, and its end."""
        if stream.up is None:
            self._last += 2
            stream.line, stream.up = self, self.outlet.open(self._last)
            self.streams[self._last] = stream
            self.write(headers_frames(0, self._last, stream.headers))
        stream.goes()
        kept, stream.kept = stream.kept, []
        last = kept.pop() if kept else b""
        for message in kept:
            self.outlet.send(stream.up, message)
        end = stream.ended and not stream.told
        if last or end:
            self.outlet.send(stream.up, last, END_STREAM if end else 0)
            stream.told = stream.ended

    def data_received(self, data: bytes) -> None:
        data, frames = self._frames.take(data)
        for kind, flags, number, place, stop in frames:
            if kind in (HEADERS, DATA, RST_STREAM):
                stream = self.streams.get(number)
                if kind == DATA:
                    self.count(None if stream is None else stream.up, stop - place - HEAD.size)
                if stream is not None:
                    self._tell(stream, kind, data, place, stop, last=bool(flags & END_STREAM))
            elif kind == GOAWAY:
                self._upstream.leave(self)
            else:
                self.settle(kind, flags, number, payload_of(data, place, stop))

    def _tell(self, stream: Stream, kind: int, data: bytes, place: int, stop: int, *, last: bool) -> None:
        """The caller, if it is still there; then it may be another one's turn."""
        caller = stream.caller
        if last or kind == RST_STREAM:
            assert stream.up is not None
            del self.streams[stream.up.number]
            self.outlet.drop(stream.up)
            stream.line = None
        if caller is None:
            pass
        elif kind == HEADERS:
            caller.tell_headers(stream, block_of(data, place, stop).removeprefix(TABLE_EMPTIED), last=last)
        elif kind == DATA:
            caller.tell_data(stream, payload_of(data, place, stop), last=last)
        else:
            caller.tell_reset(stream, payload_of(data, place, stop))
        if last or kind != HEADERS:
            self._upstream.end_turn(stream)

    def flow_of(self, number: int) -> Flow | None:
        stream = self.streams.get(number)
        return None if stream is None else stream.up

    def flows(self) -> list[Flow]:
        return [stream.up for stream in self.streams.values() if stream.up is not None]
