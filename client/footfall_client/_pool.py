"""Pool: HTTP connections to one address, kept for the next call, whichever thread makes it."""

import http.client
import io
import os
import select
import ssl
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from socket import socket
from typing import Any
from urllib.parse import urlsplit

IO_BUFFER_BYTES = 2**16


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Pool:
    """As many connections as calls were under way at once. A forked process uses none of its parent's."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        """`url` is host:port, perhaps with a path that all paths are beneath."""
        address = urlsplit(f"//{url}")
        host, port = address.hostname or "", address.port
        self._path = address.path.rstrip("/")
        self._new = (
            partial(http.client.HTTPConnection, host, port)
            if tls is None
            else partial(http.client.HTTPSConnection, host, port, context=tls)
        )
        self._keep_nothing()

    def call(self, method: str, path: str, body: bytes, headers: dict[str, str], timeout: float) -> Answer:
        """The answer to a request, whole within `timeout` seconds.

        Raises OSError, of which TimeoutError is one, and http.client.HTTPException.
        """
        deadline = time.monotonic() + timeout
        connection = self._take()
        try:
            if connection.sock is None:
                connection.timeout = timeout
                connection.connect()
            connection.sock.settimeout(_left(deadline))
            connection.response_class = partial(_AnswerInTime, deadline)  # type: ignore[assignment]
            connection.request(method, f"{self._path}/{path}", body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except BaseException:  # an interrupted call leaves half an answer behind
            connection.close()
            raise
        self._put_back(connection)
        return answer

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _keep_nothing(self) -> None:
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._process = os.getpid()

    def _take(self) -> http.client.HTTPConnection:
        if self._process != os.getpid():
            self._keep_nothing()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._new()
            if not _is_readable(connection.sock):
                return connection
            connection.close()  # the server has ended it: nothing else is to be read there

    def _put_back(self, connection: http.client.HTTPConnection) -> None:
        if connection.sock is not None:  # the server keeps it open
            self._idle.append(connection)


class _AnswerInTime(http.client.HTTPResponse):
    """Reads until a deadline; a socket's own timeout begins anew with every part that comes."""

    def __init__(self, deadline: float, sock: socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_UntilDeadline(sock, deadline), IO_BUFFER_BYTES)


class _UntilDeadline(io.RawIOBase):
    def __init__(self, sock: socket, deadline: float) -> None:
        self._sock, self._deadline = sock, deadline
        self._stream = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(self._deadline))
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


def _is_readable(sock: socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
