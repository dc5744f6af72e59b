"""Open loop: requests leave at random times, whether or not earlier ones have been answered.

python open_loop.py HOST:PORT BODIES RATE SECONDS

Poisson arrivals; a latency counts from when its request was meant to leave, so that a server that stands still is
not spared the requests it delays. Prints one JSON object. One process, raw asyncio on uvloop: about 40 us of CPU a
request, on the same cores as the server.
"""

import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, cast

import numpy as np
import uvloop

MAX_CONNECTIONS = 256
"""A request that finds all of them taken waits for one; its latency counts that too."""
PATIENCE_S = 10.0


class Loop:
    def __init__(self, bodies: list[bytes], host: str) -> None:
        head = (
            f"POST /v2/models/footfall/infer HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        )
        self.requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self.free: list[Connection] = []
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.latencies: list[float] = []
        self.failures = 0

    def send(self, due: float, request: bytes) -> None:
        if self.free:
            self.free.pop().ask(due, request)
        else:
            self.waiting.append((due, request))

    def answered(self, connection: "Connection", due: float, status: bytes) -> None:
        self.latencies.append(time.perf_counter() - due)
        self.failures += status != b"200"
        if self.waiting:
            connection.ask(*self.waiting.popleft())
        else:
            self.free.append(connection)


class Connection(asyncio.Protocol):
    def __init__(self, loop: Loop) -> None:
        self._loop, self._buffer, self._missing = loop, bytearray(), 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop.free.append(self)

    def ask(self, due: float, request: bytes) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        place = head.index(b"content-length:") + len(b"content-length:")
        size = int(head[place:].split(b"\r\n", 1)[0])
        if len(self._buffer) >= end + 4 + size:
            self._buffer.clear()
            self._loop.answered(self, self._due, head.split(b" ", 2)[1])


async def run(url: str, bodies: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    host, port = url.split(":")
    loop, event_loop = Loop(bodies, url), asyncio.get_running_loop()
    for _ in range(MAX_CONNECTIONS):
        await event_loop.create_connection(lambda: Connection(loop), host, int(port))
    random = np.random.default_rng(0)
    due = np.cumsum(random.exponential(1 / rate, int(rate * seconds)))
    began, sent = time.perf_counter(), 0
    while sent < len(due):
        now = time.perf_counter() - began
        while sent < len(due) and due[sent] <= now:
            loop.send(began + due[sent], loop.requests[sent % len(loop.requests)])
            sent += 1
        await asyncio.sleep(max(min(due[sent] - now, 0.002), 0) if sent < len(due) else 0)
    deadline = time.perf_counter() + PATIENCE_S
    while len(loop.latencies) < sent and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    missing = sent - len(loop.latencies)
    latencies = np.array(loop.latencies + [PATIENCE_S] * missing)
    return {
        "rate": rate,
        "requests": sent,
        "failures": loop.failures + missing,
        **{f"p{part}_ms": float(np.percentile(latencies, part) * 1000) for part in (50, 90, 99)},
    }


if __name__ == "__main__":
    url, bodies, rate, seconds = sys.argv[1:]
    print(
        json.dumps(uvloop.run(run(url, Path(bodies).read_bytes().splitlines(), float(rate), float(seconds))))
    )
