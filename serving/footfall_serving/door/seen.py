"""Seen: what the door tells of the inferences that pass it, in numbers and, where that is wanted, line by line."""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import cast

from footfall_serving.door.access import AccessLog
from footfall_serving.exposition import exposed, exposed_histogram

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
GONE = "GONE"
"""In place of a status: the caller left before the answer."""


def seen_file(grpc_file: str) -> Path:
    """Beside the server's socket, in the door's folder: who connects is told the numbers."""
    return Path(grpc_file).with_name("seen")


class Asked:
    """One inference: when it was here whole and when the server got it, by the clock."""

    __slots__ = ("arrived", "id", "model", "protocol", "sent")

    def __init__(self, protocol: str, id_: str, model: str, arrived: float) -> None:
        self.protocol, self.id, self.model, self.arrived = protocol, id_, model, arrived
        self.sent = 0.0


class Seen:
    """Every inference is taken, sent unless it is refused, and done once."""

    def __init__(self, clock: Callable[[], float], access: AccessLog | None = None) -> None:
        self._clock, self.access = clock, access
        # Good answers are told of from the start: of a series that begins at its first number there is no rate.
        self._answers = Counter({("http", "200"): 0, ("grpc", "OK"): 0})
        self._times = {protocol: [0] * (len(BOUNDS_S) + 1) for protocol in ("http", "grpc")}
        self._seconds = dict.fromkeys(self._times, 0.0)
        self._waited = dict.fromkeys(self._times, 0.0)

    def take(self, protocol: str, id_: str, model: str) -> Asked:
        return Asked(protocol, id_, model, self._clock())

    def send(self, asked: Asked) -> None:
        asked.sent = self._clock()

    def done(self, asked: Asked, status: str, version: Callable[[], int | None] = lambda: None) -> None:
        """`version` reads the answer for the number, where it is written down."""
        now = self._clock()
        took, sent = now - asked.arrived, asked.sent or now
        protocol = asked.protocol
        self._answers[protocol, status] += 1
        self._times[protocol][bisect_left(BOUNDS_S, took)] += 1
        self._seconds[protocol] += took
        self._waited[protocol] += sent - asked.arrived
        if self.access is not None and self.access.wants():
            self.access.write(
                {
                    "id": asked.id,
                    "protocol": protocol,
                    "model": asked.model,
                    "status": status,
                    "door_ms": round(1000 * (sent - asked.arrived), 3),
                    "server_ms": round(1000 * (now - sent), 3),
                    "version": version(),
                }
            )

    def refuse(self, protocol: str, status: str) -> None:
        """What was no inference yet."""
        self._answers[protocol, status] += 1

    def text(self, under_way: int, connections: int, held_bytes: int) -> str:
        """For Prometheus."""
        answers = [({"protocol": of[0], "status": of[1]}, number) for of, number in self._answers.items()]
        buckets = [
            ({"protocol": protocol, "le": le}, number)
            for protocol, counts in self._times.items()
            for le, number in zip([*map(str, BOUNDS_S), "+Inf"], accumulate(counts), strict=True)
        ]
        sums = [({"protocol": protocol}, self._seconds[protocol]) for protocol in self._times]
        counts = [({"protocol": protocol}, sum(times)) for protocol, times in self._times.items()]
        waited = [({"protocol": protocol}, self._waited[protocol]) for protocol in self._times]
        lost = 0 if self.access is None else self.access.lost
        return "".join(
            (
                exposed(
                    "footfall_door_answers_total", "Answered or refused, by protocol and status.", answers
                ),
                exposed_histogram(
                    "footfall_door_seconds",
                    "Of inferences, from the last byte of the request to the answer.",
                    buckets,
                    sums,
                    counts,
                ),
                exposed(
                    "footfall_door_wait_seconds_total", "Of inferences, until the server had them.", waited
                ),
                exposed("footfall_door_inferences", "Under way.", [({}, under_way)]),
                exposed("footfall_door_connections", "Open, over both protocols.", [({}, connections)]),
                exposed("footfall_door_held_bytes", "Of requests that are not answered.", [({}, held_bytes)]),
                exposed("footfall_door_access_lines_lost_total", "Not written.", [({}, lost)]),
            )
        )


class Told(asyncio.Protocol):
    """One who connects to the `seen_file`."""

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport_ = cast(asyncio.Transport, transport)
        transport_.write(self._text().encode())
        transport_.close()
