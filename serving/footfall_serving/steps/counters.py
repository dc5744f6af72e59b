"""Counters: what the steps of a version count, as the server's metrics show it."""

import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import triton_python_backend_utils as pb_utils

PERIOD_S = 1.0


class Counter:
    """Places that only grow; what is added waits until it is sent."""

    def __init__(self, metrics: Sequence[Any]) -> None:
        self._metrics, self._lock = metrics, threading.Lock()
        self._waiting: list[float] = [0] * len(metrics)

    def add(self, number: float, place: int = 0) -> None:
        with self._lock:
            self._waiting[place] += number

    def add_all(self, numbers: Sequence[float]) -> None:
        """One a place."""
        with self._lock:
            self._waiting = [waiting + number for waiting, number in zip(self._waiting, numbers, strict=True)]

    def send(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, [0] * len(self._metrics)
        for metric, number in zip(self._metrics, waiting, strict=True):
            if number:
                metric.increment(number)


class Histogram:
    """Of each bound how many values are no greater, as Prometheus has it. The backend's own takes a call a value."""

    def __init__(self, buckets: Counter, sums: Counter | None, bounds: Sequence[float]) -> None:
        self._buckets, self._sums, self._bounds = buckets, sums, bounds

    def add(self, values: Sequence[float]) -> None:
        counts = [0] * (len(self._bounds) + 1)
        for value in values:
            counts[bisect_left(self._bounds, value)] += 1
        self._buckets.add_all(list(accumulate(counts)))
        if self._sums is not None:
            self._sums.add_all((sum(values), len(values)))


class Counters:
    """What was added reaches the server within PERIOD_S, by a thread.

    The stub sends each increment to the server and waits for 30 to 70 us: no batch does, and few are sent.
    """

    def __init__(self, version: int) -> None:
        self._version = str(version)
        # Kept: the stub deletes one that nothing holds, and its metrics with it.
        self._kept: list[Any] = []
        self._counters: list[Counter] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send_at_times, name="counters", daemon=True)
        self._thread.start()

    def counter(
        self, name: str, description: str, label: str | None = None, values: Sequence[str] = ("",)
    ) -> Counter:
        """A place for each value of the label, or one without."""
        labels = [{} if label is None else {label: value} for value in values]
        return self._counter(self._metrics("COUNTER", name, description, labels))

    def mix(self, name: str, description: str, labels: Sequence[Mapping[str, str]]) -> Counter:
        """A place for each set of labels."""
        return self._counter(self._metrics("COUNTER", name, description, labels))

    def histogram(
        self, name: str, description: str, bounds: Sequence[float], *, falls: bool = False
    ) -> Histogram:
        """`falls` where values may be below 0: then there is no sum of them, as that could fall."""
        buckets = self.counter(
            f"{name}_bucket", description, "le", [*(f"{bound:g}" for bound in bounds), "+Inf"]
        )
        if falls:
            return Histogram(buckets, None, bounds)
        both = [
            *self._metrics("COUNTER", f"{name}_sum", description, [{}]),
            *self._metrics("COUNTER", f"{name}_count", description, [{}]),
        ]
        return Histogram(buckets, self._counter(both), bounds)

    def constant(
        self, name: str, description: str, labels: Sequence[Mapping[str, str]], values: Sequence[float]
    ) -> None:
        """Told once: one value for each set of labels."""
        for metric, value in zip(self._metrics("GAUGE", name, description, labels), values, strict=True):
            metric.set(value)

    def close(self) -> None:
        """Before the server lets go of the step; what waits then is told to nobody."""
        self._ended.set()
        self._thread.join()

    def _metrics(
        self, kind: str, name: str, description: str, labels: Sequence[Mapping[str, str]]
    ) -> list[Any]:
        family = pb_utils.MetricFamily(
            name=name, description=description, kind=getattr(pb_utils.MetricFamily, kind)
        )
        metrics = [family.Metric(labels={"version": self._version, **each}) for each in labels]
        self._kept += [family, *metrics]
        return metrics

    def _counter(self, metrics: Sequence[Any]) -> Counter:
        counter = Counter(metrics)
        self._counters.append(counter)
        return counter

    def _send_at_times(self) -> None:
        while not self._ended.wait(PERIOD_S):
            for counter in list(self._counters):
                counter.send()
