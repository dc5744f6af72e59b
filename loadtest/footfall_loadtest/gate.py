"""Gate: what a load test measured, and whether that is good enough."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from footfall.errors import InputError


@dataclass(frozen=True)
class Measured:
    """Of one protocol: latencies in milliseconds, requests and failures counted."""

    requests: int
    failures: int
    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, times_ms: Sequence[float], failures: int, seconds: float) -> "Measured":
        """From the time of every request, failed ones too; `seconds` is how long the test ran."""
        p50, p95, p99 = np.percentile(times_ms, [50, 95, 99]).tolist() if times_ms else (0.0, 0.0, 0.0)
        return cls(len(times_ms), failures, len(times_ms) / seconds, p50, p95, p99)


@dataclass(frozen=True)
class Gate:
    """Largest p99 of any protocol and most failures of all; None: no limit."""

    p99_ms: float | None = None
    max_failures: int = 0

    def check(self, measured: Mapping[str, Measured]) -> None:
        """Raises InputError, which ends the command with an error, where a limit is passed or nothing was asked."""
        failures = sum(one.failures for one in measured.values())
        for protocol, one in measured.items():
            if not one.requests:
                raise InputError(f"the load test made no request at all over {protocol}")
        if failures > self.max_failures:
            raise InputError(f"{failures} requests failed, at most {self.max_failures} may")
        for protocol, one in measured.items():
            if self.p99_ms is not None and one.p99_ms > self.p99_ms:
                raise InputError(
                    f"p99 over {protocol} is {one.p99_ms:.1f} ms, at most {self.p99_ms:g} ms may be"
                )


def as_json(measured: Mapping[str, Measured]) -> dict[str, Any]:
    return {protocol: asdict(one) for protocol, one in measured.items()}
