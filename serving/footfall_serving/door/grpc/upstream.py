"""Upstream: the way to the server, by one line at a time that is opened when it is needed."""

import asyncio
import contextlib

from footfall_serving.door.callers import Callers
from footfall_serving.door.grpc.line import Line
from footfall_serving.door.grpc.refused import Refused, Status
from footfall_serving.door.grpc.stream import Stream

NOT_THERE = Refused(Status.UNAVAILABLE, "the server is not there at the moment; try again")


class Upstream:
    """To the server that listens on the socket file `path`."""

    def __init__(self, callers: Callers, path: str) -> None:
        self._callers, self._path = callers, path
        self._line: Line | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[Stream, None] = {}

    def send(self, stream: Stream) -> None:
        """What is kept of the call; its caller is refused where the server is not there."""
        line = stream.line or self._line
        if line is not None:
            line.send(stream)
            return
        self._waiting[stream] = None
        if self._task is None:
            self._task = self._callers.loop.create_task(self._connect())

    async def _connect(self) -> None:
        line: Line | None = None
        with contextlib.suppress(OSError):  # it is started again; callers know how to try again
            _, line = await self._callers.loop.create_unix_connection(lambda: Line(self), self._path)
        self._task, self._line = None, line
        waiting, self._waiting = self._waiting, {}
        for stream in waiting:
            if line is not None and stream.caller is not None:
                line.send(stream)
            else:
                self._fail(stream)

    def leave(self, line: Line) -> None:
        """The calls that it has end there; others go on another one."""
        if self._line is line:
            self._line = None

    def lost(self, line: Line) -> None:
        self.leave(line)
        for stream in list(line.streams.values()):
            stream.line = None
            self._fail(stream)

    def _fail(self, stream: Stream) -> None:
        if stream.caller is not None:
            stream.caller.refuse(stream, NOT_THERE)
        self.end_turn(stream)

    def end_turn(self, stream: Stream) -> None:
        """The server no longer works on what it asked."""
        turn, stream.turn, stream.asks = stream.turn, None, False
        if turn is None:
            return
        if turn.waits:
            self._callers.leave(turn)
        else:
            self._callers.end(turn)
