"""Connection: one caller of the door over gRPC, and the line to the server that is this caller's alone."""

import asyncio
from functools import partial
from typing import cast

from footfall_serving.door.callers import Callers
from footfall_serving.door.grpc.frames import (
    CANCEL,
    DATA,
    END_STREAM,
    HEAD,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    Frames,
    Malformed,
    frame,
)
from footfall_serving.door.grpc.inference import who
from footfall_serving.door.grpc.line import MARK, Line
from footfall_serving.door.grpc.refused import TOO_MANY, TOO_MUCH, TRAILERS, Refused, Status
from footfall_serving.door.grpc.stream import PREFIX, Stream
from footfall_serving.door.hold import LOOK_S
from footfall_serving.door.limits import MAX_FRAME_BYTES, MAX_HEAD_BYTES, MAX_SECONDS, STREAM_BYTES
from footfall_serving.door.rollout import GRPC, renamed


class Connection(asyncio.Protocol):
    """What a caller sends, frame by frame; `line` is there once the caller has sent the preface of HTTP/2.

    A call is refused in three steps, so that the two ends agree on their table of headers and on the order of frames:
    the server is told that the call is cancelled, and pinged; what it sends for the call until it answers the ping
    still passes; then, unless the server has ended the call itself, the refusal goes to the caller.
    """

    def __init__(self, callers: Callers, path: str) -> None:
        self._callers, self._path = callers, path
        self._frames = Frames(MAX_FRAME_BYTES, MAX_HEAD_BYTES)
        self._early: bytearray | None = bytearray()
        self._kept = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._line: Line | None = None
        self._last_stream = 0
        self._held = 0
        self._closed = False
        self._swallowed = self._pauses = 0
        self._due: list[bytes] | None = None
        self.streams: dict[int, Stream] = {}
        self.since = self._arriving = callers.loop.time()

    @property
    def busy(self) -> bool:
        return bool(self.streams)

    under_way = busy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._callers.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        self._callers.remove(self)
        for number in list(self.streams):
            self.end(number)
        self._callers.hold(-self._held, 0)
        if self._line is not None:
            self._line.transport.close()

    def close(self) -> None:
        """Once what was written has been read; at once where that was waited for already."""
        if self._closed:
            self.transport.abort()
        self._closed = True
        self.transport.close()

    def send_away(self, *, last: bool) -> None:
        if self._line is not None:
            self._line.send_away(self._last_stream if last else None)

    def pause_writing(self) -> None:
        """The caller does not read. Nor is it read then: each call that is refused waits for room here."""
        self.pause_reading()
        if self._line is not None and not self._line.transport.is_closing():
            self._line.transport.pause_reading()

    def resume_writing(self) -> None:
        self.resume_reading()
        if self._line is not None and not self._line.transport.is_closing():
            self._line.transport.resume_reading()

    def pause_reading(self) -> None:
        """Until as many calls of `resume_reading`."""
        self._pauses += 1
        if self._pauses == 1 and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        self._pauses -= 1
        if not self._pauses and not self.transport.is_closing():
            self.transport.resume_reading()

    def refuse_slow(self, began: float) -> None:
        if self._closed:
            if self.since < began:
                self.close()
        elif (self._early is not None or self._frames.waiting) and self._arriving < began:
            self.close()
        else:
            for number, stream in self.streams.items():
                if stream.since is not None and stream.since < began and stream.refused is None:
                    sentence = f"the message took more than {MAX_SECONDS:.0f} s to arrive"
                    self._write([self._refuse(number, Refused(Status.DEADLINE_EXCEEDED, sentence))])

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self.since = self._callers.loop.time()
        if self._early is not None:
            self._greet(data)
            return
        if self._kept or self._callers.wait():
            self._keep(data)
            return
        try:
            self._pass_on(data)
        except Malformed:
            self.close()

    def _keep(self, data: bytes) -> None:
        """While callers are held."""
        if not self._kept:
            self.pause_reading()
            self._callers.loop.call_later(LOOK_S, self._go_on)
        self._kept += data

    def _go_on(self) -> None:
        if self._callers.wait():
            self._callers.loop.call_later(LOOK_S, self._go_on)
        elif not self._closed:
            data, self._kept = bytes(self._kept), bytearray()
            self.resume_reading()
            self.data_received(data)

    def _greet(self, data: bytes) -> None:
        """Wait for the preface, then connect to the server and wait for that."""
        assert self._early is not None
        self._early += data
        if not PREFACE.startswith(self._early[: len(PREFACE)]):
            self.close()
        elif len(self._early) >= len(PREFACE) and self._task is None:
            self.pause_reading()
            self._task = self._callers.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, line = await self._callers.loop.create_unix_connection(
                lambda: Line(self, self._callers), self._path
            )
        except OSError:  # the server is started again; its callers know how to try again
            self.close()
            return
        if self._closed:
            line.transport.close()
            return
        assert self._early is not None
        early, self._early, self._line = bytes(self._early), None, line
        line.transport.write(PREFACE)
        self.resume_reading()
        if len(early) > len(PREFACE):
            self.data_received(early[len(PREFACE) :])

    def _pass_on(self, data: bytes) -> None:
        waited = self._frames.waiting
        data, frames = self._frames.take(data)
        if not waited or frames:
            self._arriving = self.since
        passed: list[bytes] = []
        due = self._due = []
        start = 0
        for kind, flags, number, place, stop in frames:
            try:
                if kind == DATA:
                    tried = self.streams.get(number) if self._callers.rollout.is_on else None
                    message = tried.asked(data, place + HEAD.size, stop) if tried is not None else None
                    if message is not None and self._callers.rollout.sends(who(message)):
                        data = renamed(data, place + HEAD.size + PREFIX)
                    if not self._takes(number, flags, data, place + HEAD.size, stop):
                        passed.append(data[start:place])
                        start = stop
                    if message is not None:
                        self._callers.rollout.copy(GRPC, message, 0)
                elif kind == HEADERS:
                    self._open(number, flags)
                elif kind == RST_STREAM:
                    self.end(number)
            except Refused as refused:
                passed += data[start : place if kind == DATA else stop], self._refuse(number, refused)
                start = stop
                if kind == DATA:
                    self._swallowed += stop - place - HEAD.size
        passed.append(data[start:] if start else data)
        self._due = None
        self._write([*passed, *due] if due else passed)
        self._give_back()
        self._hold_frames(waited)

    def _write(self, parts: list[bytes]) -> None:
        assert self._line is not None
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if data:
            self._line.transport.write(data)

    def _open(self, number: int, flags: int) -> None:
        """What the server takes for a new stream; with lower numbers there is none."""
        if number in self.streams:
            if self.streams[number].refused is None:
                raise TRAILERS
        elif number > self._last_stream:
            self._last_stream = number
            self.streams[number] = Stream(self._callers.seen, ended=bool(flags & END_STREAM))
            self._held += STREAM_BYTES
            if not self._callers.hold(STREAM_BYTES, self._held):
                raise TOO_MUCH

    def _takes(self, number: int, flags: int, data: bytes, place: int, stop: int) -> bool:
        """Whether the server is to have this. Raises Refused where the caller is to be told why not."""
        stream = self.streams.get(number)
        if stream is not None and flags & END_STREAM:
            stream.ended = True
        if stream is None or stream.refused is not None:
            self._swallowed += stop - place
            return False
        if flags & PADDED:
            raise Refused(Status.UNIMPLEMENTED, "padded DATA frames are not taken")
        held = stream.held
        try:
            stream.take(data, place, stop, self.since)
        finally:
            self._held += (change := stream.held - held)
            within = self._callers.hold(change, self._held)
        if not within:
            raise TOO_MUCH
        if stream.asks and stream.turn is None:
            stream.turn = self._callers.begin(partial(self._go, stream))
            if stream.turn is None:
                raise TOO_MANY
        if stream.turn is not None and stream.turn.waits:
            stream.kept += data[place - HEAD.size : stop]
            return False
        return stream.goes()

    def _go(self, stream: Stream) -> None:
        """It is the stream's turn; what comes with it is passed on first, as its headers may be among that."""
        kept, stream.kept = stream.kept, b""
        if stream.refused is not None or not stream.goes():
            return
        self._write([kept]) if self._due is None else self._due.append(kept)

    def _hold_frames(self, waited: int) -> None:
        self._held += (change := self._frames.waiting - waited)
        if not self._callers.hold(change, self._held) and self._frames.waiting:
            self.close()

    def _refuse(self, number: int, refused: Refused) -> bytes:
        """What the server is told."""
        self.streams[number].refuse(refused)
        ping = frame(PING, 0, 0, MARK + number.to_bytes(4, "big"))
        return frame(RST_STREAM, 0, number, CANCEL.to_bytes(4, "big")) + ping

    def _give_back(self) -> None:
        """To the caller's window of the connection: the server never counts what it was not sent."""
        if self._swallowed:
            self.transport.write(frame(WINDOW_UPDATE, 0, 0, self._swallowed.to_bytes(4, "big")))
            self._swallowed = 0

    def end(self, number: int, *, done: bool = False) -> Stream | None:
        """The call is over for one of the two ends, and so for both; `done` where the server says that it is."""
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.over(done=done)
            self._held -= stream.held
            self._callers.hold(-stream.held, 0)
            if stream.turn is not None:
                if done and not stream.turn.waits:
                    self._callers.end(stream.turn, answered=False)
                else:
                    self._callers.leave(stream.turn)
        return stream

    def answered(self, stream: Stream) -> None:
        """The server no longer works on what it asked; of several inferences on one stream that is the first."""
        if stream.turn is not None and not stream.turn.waits:
            self._callers.end(stream.turn, answered=True)
            stream.asks, stream.turn = False, None
