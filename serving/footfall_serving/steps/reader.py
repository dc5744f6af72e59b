"""Reader: what a request asks, and of many at once what an engine is asked; counts what it reads and leaves out."""

from typing import Any

import numpy as np

from footfall.contract import REQUEST
from footfall_engines.batch import Batch
from footfall_serving.request import Request, read_request, to_indices
from footfall_serving.steps.mix import Mix
from footfall_serving.steps.step import Step, read

LENGTHS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Reader:
    def __init__(self, step: Step) -> None:
        self._version = step.version
        self._events = step.counters.counter(
            "footfall_events_total", "Events of requests, of each the newest that are read."
        )
        self._dropped = step.counters.counter(
            "footfall_dropped_events_total",
            "Events of requests dropped because the vocabulary does not know them.",
            "reason",
            ("unknown_item", "unknown_action"),
        )
        self._lengths = step.counters.histogram(
            "footfall_history_length",
            "Events of each request's history as the model reads it. With 0 the popular items are the answer.",
            LENGTHS,
        )
        self._mix = Mix(step)
        self._version.items.index(b"")  # builds the lookup before the first request

    def read(self, request: Any) -> Request:
        """Raises InputError for what the client got wrong."""
        return read_request(
            {tensor.name: read(request, tensor) for tensor in REQUEST}, self._version.max_top_k
        )

    def batch(self, asked: list[Request]) -> Batch:
        """Raises InputError where one of them has seen too much."""
        indexed = to_indices(asked, self._version)
        self._events.add(len(indexed.item))
        self._dropped.add_all((indexed.unknown_items, indexed.unknown_actions))
        self._lengths.add(np.diff(indexed.batch.history.offsets).tolist())
        self._mix.add(indexed)
        return indexed.batch
