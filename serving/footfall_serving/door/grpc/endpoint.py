"""Endpoint: the door's end of one HTTP/2 connection, to a caller or to the server; RFC 9113, section 6."""

import asyncio
import struct
from typing import cast

from footfall_serving.door.grpc.flow import FIRST_WINDOW, LARGEST_WINDOW, Flow, Outlet
from footfall_serving.door.grpc.frames import (
    ACK,
    FIRST_FRAME_BYTES,
    HEAD,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    Frames,
    Malformed,
    frame,
)

HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 1, 4, 5, 6
SETTING = struct.Struct(">HI")
UNREAD_BYTES = 2**30
"""Of the connection's window, half of what there may be: then it is opened again."""


class Endpoint(asyncio.Protocol):
    """Windows, settings and pings, which are between the door and the other end alone."""

    def __init__(self, frames: Frames, unread_bytes: int) -> None:
        """`unread_bytes` of a stream are half its window."""
        self._frames, self._unread_bytes = frames, unread_bytes
        self._read = 0
        self.outlet = Outlet(self.write)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.outlet.paused = True

    def resume_writing(self) -> None:
        self.outlet.paused = False
        self.outlet.push()

    def greet(self, settings: dict[int, int]) -> None:
        """The other end may send as much as there is: what it takes up is counted elsewhere."""
        self.write(frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*setting) for setting in settings.items())))
        self._open_window(0, LARGEST_WINDOW - FIRST_WINDOW)

    def count(self, flow: Flow | None, size: int) -> None:
        """Bytes of DATA that came; their room is given back, that of a stream where it goes on."""
        self._read += size
        if self._read >= UNREAD_BYTES:
            self._open_window(0, self._read)
            self._read = 0
        if flow is not None:
            flow.read += size
            if flow.read >= self._unread_bytes:
                self._open_window(flow.number, flow.read)
                flow.read = 0

    def _open_window(self, number: int, size: int) -> None:
        self.write(frame(WINDOW_UPDATE, 0, number, size.to_bytes(4, "big")))

    def flow_of(self, number: int) -> Flow | None:
        raise NotImplementedError

    def flows(self) -> list[Flow]:
        raise NotImplementedError

    def settle(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """A frame of any other kind than those of calls. Raises Malformed."""
        if kind == WINDOW_UPDATE:
            if len(payload) != 4:
                raise Malformed
            size = int.from_bytes(payload) & LARGEST_WINDOW
            self.outlet.widen(self.flow_of(number), number, size)
        elif kind == PING:
            if len(payload) != 8:
                raise Malformed
            if not flags & ACK:
                self.write(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            if len(payload) % SETTING.size:
                raise Malformed
            for name, value in SETTING.iter_unpack(payload):
                self.set(name, value)
            self.write(frame(SETTINGS, ACK, 0, b""))

    def set(self, name: int, value: int) -> None:
        if name == INITIAL_WINDOW_SIZE:
            self.outlet.change_first_window(value, self.flows())
        elif name == MAX_FRAME_SIZE:
            if not FIRST_FRAME_BYTES <= value < 2**24:
                raise Malformed
            self.outlet.max_frame_bytes = value


def payload_of(data: bytes, place: int, stop: int) -> bytes:
    return data[place + HEAD.size : stop]
