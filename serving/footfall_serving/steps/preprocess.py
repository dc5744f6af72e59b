"""Preprocess: raw ids, actions and times to the indices the ranker reads."""

from typing import Any

from footfall.contract import ENGINE_INPUTS, REQUEST
from footfall_serving.request import padded, read_request, to_indices
from footfall_serving.steps.step import Step, read, write


class Preprocess(Step):
    def start(self) -> None:
        self._unknown_items, self._unknown_actions = self.counters(
            "footfall_dropped_events_total",
            "Events of requests dropped because the vocabulary does not know them.",
            "reason",
            ("unknown_item", "unknown_action"),
        )
        self.version.items.index(b"")  # builds the lookup before the first request

    def answer(self, request: Any) -> list[Any]:
        tensors = {tensor.name: read(request, tensor) for tensor in REQUEST}
        wanted = read_request(tensors, self.version.max_top_k)
        indices, unknown_items, unknown_actions = to_indices(wanted, self.version)
        for metric, count in ((self._unknown_items, unknown_items), (self._unknown_actions, unknown_actions)):
            if count:
                metric.increment(count)
        if self.version.backend == "tensorrt":
            indices = padded(indices, self.version.max_length)
        return [write(tensor, indices[tensor.name]) for tensor in ENGINE_INPUTS]
