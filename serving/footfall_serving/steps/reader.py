"""Reader: what a request asks, and of many at once what an engine is asked; counts what it leaves out."""

from typing import Any

from footfall.contract import REQUEST
from footfall_engines.batch import Batch
from footfall_serving.request import Request, read_request, to_indices
from footfall_serving.steps.step import Step, read


class Reader:
    def __init__(self, step: Step) -> None:
        self._version = step.version
        self._unknown_items, self._unknown_actions = step.counters.of(
            "footfall_dropped_events_total",
            "Events of requests dropped because the vocabulary does not know them.",
            "reason",
            ("unknown_item", "unknown_action"),
        )
        self._version.items.index(b"")  # builds the lookup before the first request

    def read(self, request: Any) -> Request:
        """Raises InputError for what the client got wrong."""
        return read_request(
            {tensor.name: read(request, tensor) for tensor in REQUEST}, self._version.max_top_k
        )

    def batch(self, asked: list[Request]) -> Batch:
        """Raises InputError where one of them has seen too much."""
        indexed = to_indices(asked, self._version)
        self._unknown_items.add(indexed.unknown_items)
        self._unknown_actions.add(indexed.unknown_actions)
        return indexed.batch
