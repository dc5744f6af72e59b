"""Asker: callers over gRPC that cost little themselves, so that on shared cores it is the server that is overloaded.

Frames written by hand on a few connections, one process, no object of a library a call: about a tenth of what
grpc.aio takes. What it costs is told beside what it found.
"""

import asyncio
import struct
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from footfall_client._budget import RetryBudget
from footfall_client._calls import Attempts
from footfall_client._exceptions import FootfallClientError, Overloaded
from footfall_client._settings import DEFAULT_RETRIES
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
    HEAD,
    HEADERS,
    PREFACE,
    RST_STREAM,
    Frames,
    block_of,
    frame,
    headers_frames,
)
from footfall_serving.door.grpc.literal import literal

CONNECTIONS = 8
CANCEL = struct.pack(">I", 8)
TICK_S = 0.001
OK, DEADLINE_EXCEEDED, UNAVAILABLE = b"0", b"4", b"14"
STATUS = b"grpc-status"
CALL = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
        (b":authority", b"door"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)

OnEnd = Callable[[bytes], None]


class Line(Endpoint):
    """One connection; each call's `on_end` gets the status, b"" where the connection went."""

    def __init__(self) -> None:
        super().__init__(Frames(2**24 + HEAD.size, 2**24), UNREAD_BYTES)
        self._last = -1
        self.calls: dict[int, OnEnd] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write(PREFACE)
        self.greet({HEADER_TABLE_SIZE: 0, INITIAL_WINDOW_SIZE: LARGEST_WINDOW})

    def connection_lost(self, error: Exception | None) -> None:
        calls, self.calls = self.calls, {}
        for on_end in calls.values():
            on_end(b"")

    def ask(self, message: bytes, seconds: float, on_end: OnEnd) -> int:
        """`message` with its prefix; returns the number of the call."""
        self._last += 2
        self.calls[self._last] = on_end
        block = CALL + literal(b"grpc-timeout", b"%dm" % (seconds * 1000))
        self.write(headers_frames(0, self._last, block) + frame(DATA, END_STREAM, self._last, message))
        return self._last

    def leave(self, number: int) -> None:
        if self.calls.pop(number, None) is not None:
            self.write(frame(RST_STREAM, 0, number, CANCEL))

    def data_received(self, data: bytes) -> None:
        data, frames = self._frames.take(data)
        for kind, flags, number, place, stop in frames:
            if kind == DATA:
                self.count(None, stop - place - HEAD.size)
            elif kind in (HEADERS, RST_STREAM):
                if kind == RST_STREAM or flags & END_STREAM:
                    on_end = self.calls.pop(number, None)
                    if on_end is not None:
                        on_end(_status(block_of(data, place, stop)) if kind == HEADERS else b"")
            else:
                self.settle(kind, flags, number, payload_of(data, place, stop))

    def flow_of(self, number: int) -> Flow | None:
        return None  # messages are far smaller than the door's windows

    def flows(self) -> list[Flow]:
        return []


def _status(block: bytes) -> bytes:
    place = block.index(STATUS) + len(STATUS)
    return block[place + 1 : place + 1 + block[place]]


async def connect(url: str) -> list[Line]:
    host, _, port = url.rpartition(":")
    loop = asyncio.get_running_loop()
    lines = [await loop.create_connection(Line, host, int(port)) for _ in range(CONNECTIONS)]
    return [line for _, line in lines]


async def closed_loop(url: str, messages: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Keep `clients` calls under way, a second of warm-up first; what they cost in processor time too."""
    lines = await connect(url)
    statuses: Counter[bytes] = Counter()
    asked, ends, done = 0, time.perf_counter() + 1.0, asyncio.Event()

    def ask(number: int) -> None:
        nonlocal asked
        if time.perf_counter() >= ends:
            done.set()
            return
        asked += 1
        lines[number % CONNECTIONS].ask(
            messages[asked % len(messages)], 30.0, lambda status: ended(number, status)
        )

    def ended(number: int, status: bytes) -> None:
        statuses[status] += 1
        ask(number)

    for number in range(clients):
        ask(number)
    await done.wait()
    await asyncio.sleep(0.5)  # for the last answers
    statuses.clear()
    began, worked = time.perf_counter(), time.process_time()
    ends = began + seconds
    for number in range(clients):
        ask(number)
    await asyncio.sleep(seconds)
    answers, others = statuses[OK], statuses.total() - statuses[OK]
    return {
        "requests": statuses.total(),
        "failures": others,
        "requests_per_second": answers / (time.perf_counter() - began),
        "client_us": (time.process_time() - worked) / max(answers, 1) * 1e6,
    }


class OpenLoop:
    """Calls at random moments, `rate` a second, whatever becomes of the ones before.

    Each is tried again as the client tries, within its deadline, and left when that has passed. Times count from the
    moment a call was to be sent.
    """

    def __init__(self, lines: list[Line], messages: list[bytes], deadline_s: float) -> None:
        self._lines, self._messages, self._deadline_s = lines, messages, deadline_s
        self._loop = asyncio.get_running_loop()
        self._budget = RetryBudget()
        self._waiting: deque[_Call] = deque()
        self.times: list[float] = []
        self.failures: Counter[str] = Counter()
        self.attempts = 0
        self.worst_delay_s = 0.0

    async def run(self, rate: float, seconds: float) -> float:
        """Returns for how many seconds calls were begun."""
        moments = np.cumsum(np.random.default_rng(0).exponential(1 / rate, round(rate * seconds))).tolist()
        began = time.perf_counter()
        place = 0
        while place < len(moments) or self._waiting:
            now = time.perf_counter()
            while place < len(moments) and began + moments[place] <= now:
                self._begin(place, began + moments[place], now)
                place += 1
                if place == len(moments):
                    elapsed = now - began
            self._leave(now)
            await asyncio.sleep(TICK_S)
        return elapsed

    def _begin(self, place: int, due: float, now: float) -> None:
        self.worst_delay_s = max(self.worst_delay_s, now - due)
        call = _Call(self, self._lines[place % CONNECTIONS], self._messages[place % len(self._messages)], due)
        call.attempts = Attempts(self._deadline_s - (now - due), DEFAULT_RETRIES, self._budget)
        self._waiting.append(call)
        call.ask()

    def _leave(self, now: float) -> None:
        while self._waiting and (self._waiting[0].over or self._waiting[0].due + self._deadline_s <= now):
            self._waiting.popleft().leave()

    def ended(self, call: "_Call", status: bytes) -> None:
        if status == OK:
            call.over = True
            self._budget.answered()
            self.times.append(time.perf_counter() - call.due)
        elif status == UNAVAILABLE:
            try:
                self._loop.call_later(call.attempts.delay_after(OVERLOAD), call.ask)
            except FootfallClientError:
                call.over = True
                self.failures["Overloaded"] += 1
        else:
            call.over = True
            self.failures[status.decode() or "lost"] += 1


OVERLOAD = Overloaded("as the door says")


class _Call:
    __slots__ = ("_line", "_loop", "_message", "_number", "attempts", "due", "over")

    def __init__(self, loop: OpenLoop, line: Line, message: bytes, due: float) -> None:
        self._loop, self._line, self._message, self.due = loop, line, message, due
        self.over = False
        self.attempts: Attempts

    def ask(self) -> None:
        left = self.due + self._loop._deadline_s - time.perf_counter()
        if not self.over and left > 0:
            self._loop.attempts += 1
            self._number = self._line.ask(self._message, left, lambda status: self._loop.ended(self, status))

    def leave(self) -> None:
        if not self.over:
            self.over = True
            self._line.leave(self._number)
            self._loop.failures["DeadlineExceeded"] += 1


async def open_loop(
    url: str, messages: list[bytes], rate: float, seconds: float, deadline_s: float
) -> dict[str, Any]:
    loop = OpenLoop(await connect(url), messages, deadline_s)
    worked = time.process_time()
    elapsed = await loop.run(rate, seconds)
    worked = time.process_time() - worked
    good = [passed for passed in loop.times if passed <= deadline_s]
    return {
        "requests": round(rate * seconds),
        "attempts": loop.attempts,
        "offered_per_second": round(rate * seconds) / elapsed,
        "answers": len(loop.times),
        "good_per_second": len(good) / elapsed,
        "good_p50_ms": float(np.percentile(good, 50) * 1000) if good else 0.0,
        "good_p99_ms": float(np.percentile(good, 99) * 1000) if good else 0.0,
        "late": len(loop.times) - len(good),
        "begun_late_ms": loop.worst_delay_s * 1000,
        "client_us": worked / max(loop.attempts, 1) * 1e6,
        "client_cores": worked / elapsed,
        "failures": loop.failures,
    }
