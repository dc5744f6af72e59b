"""Upstream: connections to the server's socket file, each with one request at a time, kept for the next one."""

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from footfall_serving.door.http.refused import Refused

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*\r\n", re.IGNORECASE)
NOT_THERE = Refused(
    HTTPStatus.SERVICE_UNAVAILABLE, "the server is not there at the moment; try again"
).answer(last=False)
OTHER_ANSWER = Refused(HTTPStatus.BAD_GATEWAY, "the server's answer says no length").answer(last=False)

OnAnswer = Callable[[bytes], None]


class Upstream:
    """The connections to one socket file. At most as many as the door has callers."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self._path, self._loop = path, loop
        self._tasks: set[asyncio.Task[None]] = set()
        self.idle: list[_Line] = []

    def ask(self, request: bytes, on_answer: OnAnswer) -> None:
        """Have the server answer; `on_answer` gets its bytes, or a refusal where it is not there."""
        if self.idle:
            self.idle.pop().ask(request, on_answer)
        else:
            task = self._loop.create_task(self._ask_anew(request, on_answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask_anew(self, request: bytes, on_answer: OnAnswer) -> None:
        try:
            _, line = await self._loop.create_unix_connection(lambda: _Line(self), self._path)
        except OSError:
            on_answer(NOT_THERE)
        else:
            line.ask(request, on_answer)


class _Line(asyncio.Protocol):
    """One connection to the server."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._on_answer: OnAnswer | None = None
        self._answer = bytearray()
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes, on_answer: OnAnswer) -> None:
        self._on_answer = on_answer
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        answer += data
        if not self._size:
            end = answer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = LENGTH.search(answer, 0, end + 2)
            if length is None:
                self._end(OTHER_ANSWER)
                return
            self._size = end + 4 + int(length[1])
        if len(answer) >= self._size:
            self._answer, self._size = bytearray(), 0
            self._upstream.idle.append(self)
            self._end(bytes(answer))

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._upstream.idle:
            self._upstream.idle.remove(self)
        self._end(NOT_THERE)

    def _end(self, answer: bytes) -> None:
        on_answer, self._on_answer = self._on_answer, None
        if answer is OTHER_ANSWER:
            self._transport.abort()
        if on_answer is not None:
            on_answer(answer)
