"""Arrival: a caller's connection until its frames are read: the preface, and what waits while callers are held."""

from footfall_serving.door.callers import Callers
from footfall_serving.door.grpc.endpoint import (
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    Endpoint,
)
from footfall_serving.door.grpc.frames import HEAD, PREFACE, Frames, Malformed
from footfall_serving.door.hold import LOOK_S
from footfall_serving.door.limits import MAX_BODY_BYTES, MAX_FRAME_BYTES, MAX_HEAD_BYTES

STREAM_WINDOW = 2 * MAX_BODY_BYTES
TO_CALLERS = {
    INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    MAX_FRAME_SIZE: MAX_FRAME_BYTES - HEAD.size,
    MAX_HEADER_LIST_SIZE: MAX_HEAD_BYTES,
}


class Arrival(Endpoint):
    """`since` when something came last."""

    def __init__(self, callers: Callers) -> None:
        super().__init__(Frames(MAX_FRAME_BYTES, MAX_HEAD_BYTES), STREAM_WINDOW // 2)
        self._callers = callers
        self._early: bytearray | None = bytearray()
        self._kept = bytearray()
        self._closed = False
        self._pauses = 0
        self.since = self._arriving = callers.loop.time()

    def take(self, data: bytes) -> None:
        """What came. Raises Malformed."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self.since = self._callers.loop.time()
        try:
            if self._early is not None:
                self._greet(data)
            elif self._kept or self._callers.wait():
                self._keep(data)
            else:
                self.take(data)
        except Malformed:
            self.close()

    def _keep(self, data: bytes) -> None:
        """While callers are held."""
        if not self._kept:
            self._pause_reading()
            self._callers.loop.call_later(LOOK_S, self._go_on)
        self._kept += data

    def _go_on(self) -> None:
        if self._callers.wait():
            self._callers.loop.call_later(LOOK_S, self._go_on)
        elif not self._closed:
            data, self._kept = bytes(self._kept), bytearray()
            self._resume_reading()
            self.data_received(data)

    def _greet(self, data: bytes) -> None:
        assert self._early is not None
        self._early += data
        if not PREFACE.startswith(self._early[: len(PREFACE)]):
            raise Malformed
        if len(self._early) >= len(PREFACE):
            early, self._early = bytes(self._early), None
            self.greet(TO_CALLERS)
            if len(early) > len(PREFACE):
                self.data_received(early[len(PREFACE) :])

    def close(self) -> None:
        """Once what was written has been read; at once where that was waited for already."""
        if self._closed:
            self.transport.abort()
        self._closed = True
        self.transport.close()

    def pause_writing(self) -> None:
        """The caller does not read. Nor is it read then: each call that is refused waits for room here."""
        super().pause_writing()
        self._pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._resume_reading()

    def _pause_reading(self) -> None:
        """Until as many calls of `_resume_reading`."""
        self._pauses += 1
        if self._pauses == 1 and not self.transport.is_closing():
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        self._pauses -= 1
        if not self._pauses and not self.transport.is_closing():
            self.transport.resume_reading()
