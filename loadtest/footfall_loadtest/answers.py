"""Answers: what became of every request of a load test."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

NO_VERSION = 0


class Answer(NamedTuple):
    """`due_s`: when it was to leave, from the start of the test. `late_ms`: how much later it left, which is the
    generator's fault. `latency_ms` counts from when it was to leave. `failure` is "" where there was none.
    """

    protocol: str
    due_s: float
    late_ms: float
    latency_ms: float
    failure: str
    version: int


@dataclass(frozen=True)
class Measured:
    """Of some requests: latencies in milliseconds from the intended start, failed ones' too."""

    requests: int
    failures: int
    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, answers: Iterable[Answer], begin_s: float, end_s: float) -> "Measured":
        """Of those that were to leave in these seconds; a second's are those answered well, before the end."""
        mine = [answer for answer in answers if begin_s <= answer.due_s < end_s]
        times = np.array([answer.latency_ms for answer in mine] or [0.0])
        failed = [bool(answer.failure) for answer in mine]
        in_time = [answer.due_s + answer.latency_ms / 1000 <= end_s for answer in mine]
        good = sum(done and not failure for done, failure in zip(in_time, failed, strict=True))
        p50, p95, p99, most = np.percentile(times, [50, 95, 99, 100]).tolist()
        return cls(len(mine), sum(failed), good / (end_s - begin_s), p50, p95, p99, most)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
