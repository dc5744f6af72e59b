"""Counters: what the steps of a version count, as the server's metrics show it."""

import time
from collections.abc import Sequence
from typing import Any

import triton_python_backend_utils as pb_utils

PERIOD_S = 0.1


class Counter:
    def __init__(self, metric: Any) -> None:
        self._metric, self._waiting = metric, 0

    def add(self, number: int) -> None:
        self._waiting += number

    def send(self) -> None:
        if self._waiting:
            self._metric.increment(self._waiting)
            self._waiting = 0


class Counters:
    """What was added reaches the server with the next batch a tenth of a second after what it was told last.

    The stub sends each increment to the server and waits: with each batch that took 13 % of a busy stub's time.
    """

    def __init__(self, version: int) -> None:
        self._version = str(version)
        # Kept: the stub deletes one that nothing holds, and its metrics with it.
        self._families: list[Any] = []
        self._counters: list[Counter] = []
        self._sent_s = 0.0

    def of(self, name: str, description: str, label: str, values: Sequence[str]) -> list[Counter]:
        """A counter for each value of the label."""
        family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
        self._families.append(family)
        counters = [
            Counter(family.Metric(labels={"version": self._version, label: value})) for value in values
        ]
        self._counters += counters
        return counters

    def send_at_times(self) -> None:
        if time.monotonic() - self._sent_s >= PERIOD_S:
            self._sent_s = time.monotonic()
            for counter in self._counters:
                counter.send()
