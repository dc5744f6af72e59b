"""Connection: one caller of the door over gRPC."""

import asyncio
from functools import partial

from footfall.contract import REQUEST_ID
from footfall_serving.door.callers import Callers
from footfall_serving.door.grpc.arrival import Arrival
from footfall_serving.door.grpc.endpoint import HEADER_TABLE_SIZE, payload_of
from footfall_serving.door.grpc.flow import Flow
from footfall_serving.door.grpc.frames import (
    DATA,
    END_STREAM,
    HEAD,
    HEADERS,
    LAST_STREAM,
    NO_ERROR,
    PADDED,
    RST_STREAM,
    Malformed,
    block_of,
    frame,
    goaway,
    headers_frames,
)
from footfall_serving.door.grpc.headers import TABLE_BYTES, Headers
from footfall_serving.door.grpc.inference import who
from footfall_serving.door.grpc.literal import TABLE_EMPTIED, literal
from footfall_serving.door.grpc.refused import (
    PADDED_DATA,
    TOO_LATE,
    TOO_MANY,
    TOO_MUCH,
    TRAILERS,
    Refused,
    Status,
)
from footfall_serving.door.grpc.stream import INFERENCE, PREFIX, Stream
from footfall_serving.door.grpc.upstream import Upstream
from footfall_serving.door.limits import MAX_SECONDS, STREAM_BYTES
from footfall_serving.door.rollout import GRPC, NAMED, renamed

YES, NO = b"\0\0\0\0\x02\x08\x01", b"\0"
"""What all of an answer says of who is ready or serves, in the field 1, and what its last byte says of who is not."""


class Connection(Arrival):
    """What a caller sends, frame by frame, and what it is told."""

    def __init__(self, callers: Callers, upstream: Upstream) -> None:
        super().__init__(callers)
        self._upstream = upstream
        self._headers = Headers()
        self._before_headers = b""
        self._last_stream = 0
        self._held = 0
        self._counted = 0
        self.streams: dict[int, Stream] = {}

    @property
    def busy(self) -> bool:
        return bool(self.streams)

    under_way = busy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._callers.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        self._callers.remove(self)
        for stream in list(self.streams.values()):
            self._leave(stream)
        self._callers.hold(-self._held - self._counted, 0)
        self._held = self._counted = 0

    def send_away(self, *, last: bool) -> None:
        """What is on its way is taken unless it is the `last` time; RFC 9113, section 6.8."""
        if self._early is None:
            self.write(goaway(self._last_stream if last else LAST_STREAM))

    def refuse_slow(self, began: float) -> None:
        if self._closed:
            if self.since < began:
                self.close()
        elif (self._early is not None or self._frames.waiting) and self._arriving < began:
            self.close()
        else:
            now = self._callers.loop.time()
            for stream in list(self.streams.values()):
                if stream.since is not None and stream.since < began:
                    sentence = f"the message took more than {MAX_SECONDS:.0f} s to arrive"
                    self.refuse(stream, Refused(Status.DEADLINE_EXCEEDED, sentence))
                elif stream.deadline < now:
                    self.refuse(stream, TOO_LATE)

    def take(self, data: bytes) -> None:
        waited = self._frames.waiting
        data, frames = self._frames.take(data)
        if not waited or frames:
            self._arriving = self.since
        for kind, flags, number, place, stop in frames:
            if kind == DATA:
                self._take_data(number, flags, data, place + HEAD.size, stop)
            elif kind == HEADERS:
                self._open(number, flags, block_of(data, place, stop))
            elif kind == RST_STREAM:
                if (stream := self.streams.get(number)) is not None:
                    self.outlet.drop(stream.down)
                    self._leave(stream)
            else:
                self.settle(kind, flags, number, payload_of(data, place, stop))
        if not self._hold(self._frames.waiting - waited) and self._frames.waiting:
            raise Malformed

    def _hold(self, change: int) -> bool:
        """Count what this one holds; False where that is too much."""
        self._held += change
        waiting = self.outlet.waiting - self._counted
        self._counted += waiting
        return self._callers.hold(change + waiting, self._held + self._counted)

    def _open(self, number: int, flags: int, block: bytes) -> None:
        """What HTTP/2 takes for a new stream; with lower numbers there is none."""
        try:
            told, seconds = self._headers.read(block)
            refused = None
        except Refused as error:
            told, seconds, refused = b"", None, error
        stream = self.streams.get(number)
        if number > self._last_stream and number & 1:
            self._last_stream = number
            stream = self.streams[number] = Stream(self, self.outlet.open(number), self._callers.seen)
            refused = refused if self._hold(STREAM_BYTES) else TOO_MUCH
        elif stream is not None:
            refused = TRAILERS
        else:
            return
        stream.ended = bool(flags & END_STREAM)
        if refused is not None:
            self.refuse(stream, refused)
            return
        stream.headers = told
        if seconds is not None:
            stream.deadline = self.since + seconds
        if stream.ended:
            self._upstream.send(stream)

    def _take_data(self, number: int, flags: int, data: bytes, place: int, stop: int) -> None:
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            self.count(None, stop - place)
            return
        stream.ended = bool(flags & END_STREAM)
        self.count(None if stream.ended else stream.down, stop - place)
        try:
            if flags & PADDED:
                raise PADDED_DATA
            held, kept = stream.held, len(stream.kept)
            try:
                stream.take(data, place, stop, self.since)
            finally:
                within = self._hold(stream.held - held)
            if not within:
                raise TOO_MUCH
            if self._callers.rollout.is_on:
                stream.kept[kept:] = map(self._try, stream.kept[kept:])
            if stream.asks and stream.turn is None:
                stream.turn = self._callers.begin(partial(self._go, stream))
                if stream.turn is None:
                    raise TOO_MANY
        except Refused as refused:
            self.refuse(stream, refused)
            return
        if (stream.turn is None or not stream.turn.waits) and (stream.kept or stream.ended):
            self._upstream.send(stream)

    def _try(self, message: bytes) -> bytes:
        """While a version is tried: the message as the version that answers it is to have it."""
        if not message.startswith(NAMED, PREFIX) or INFERENCE not in message:
            return message
        body = message[PREFIX:]
        self._callers.rollout.copy(GRPC, body, 0)
        return renamed(message, PREFIX) if self._callers.rollout.sends(who(body)) else message

    def _go(self, stream: Stream) -> bool:
        """It is the stream's turn."""
        if stream.deadline < self._callers.loop.time():
            stream.turn = None
            self.refuse(stream, TOO_LATE)
            return False
        self._upstream.send(stream)
        return True

    def refuse(self, stream: Stream, refused: Refused) -> None:
        """The end of a call, whatever the server may say of it."""
        stream.refuse(refused)
        answer = refused.answer(
            stream.down.number,
            begun=stream.begun,
            ended=stream.ended,
            name="" if stream.begun else stream.id,
            before=self._before_headers,
        )
        self._before_headers = b""
        self.outlet.finish(stream.down, answer)
        self._leave(stream)

    def _leave(self, stream: Stream) -> None:
        """The caller waits for no answer any more."""
        stream.over(done=False)
        self._forget(stream)
        if stream.turn is not None and stream.turn.waits:
            self._callers.leave(stream.turn)
            stream.turn = None
        if stream.line is not None and not stream.ended:
            stream.ended = True
            stream.line.send(stream)

    def _forget(self, stream: Stream) -> None:
        stream.caller = None
        stream.kept.clear()
        del self.streams[stream.down.number]
        self._hold(-stream.held)

    def tell_headers(self, stream: Stream, block: bytes, *, last: bool) -> None:
        """What the server says of the call before its messages, or behind them."""
        number = stream.down.number
        if stream.id and not stream.begun:
            block += literal(REQUEST_ID.encode(), stream.id.encode())
        frames = headers_frames(END_STREAM if last else 0, number, self._before_headers + block)
        self._before_headers = b""
        stream.begun = True
        if not last:
            self.write(frames)
            return
        if not stream.ended:
            frames += frame(RST_STREAM, 0, number, NO_ERROR.to_bytes(4, "big"))
        self.outlet.finish(stream.down, frames)
        stream.over(done=True)
        self._forget(stream)

    def tell_data(self, stream: Stream, data: bytes, *, last: bool) -> None:
        if self._callers.is_draining and data == YES:
            data = data[:-1] + NO
        self.outlet.send(stream.down, data, END_STREAM if last else 0)
        held = stream.held
        stream.answer(data)
        stream.answered()
        self._hold(stream.held - held)
        if last:
            self._forget(stream)

    def tell_reset(self, stream: Stream, code: bytes) -> None:
        self.outlet.finish(stream.down, frame(RST_STREAM, 0, stream.down.number, code))
        stream.over(done=True)
        self._forget(stream)

    def flow_of(self, number: int) -> Flow | None:
        stream = self.streams.get(number)
        return None if stream is None else stream.down

    def flows(self) -> list[Flow]:
        return [stream.down for stream in self.streams.values()]

    def set(self, name: int, value: int) -> None:
        super().set(name, value)
        if name == HEADER_TABLE_SIZE and value < TABLE_BYTES:
            self._before_headers = TABLE_EMPTIED
