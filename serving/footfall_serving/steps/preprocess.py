"""Preprocess: raw ids, actions and times to the indices the ranker reads."""

from typing import Any

from footfall.contract import ENGINE_INPUTS, REQUEST
from footfall_serving.request import Indices, Request, padded, read_request, to_indices
from footfall_serving.steps.step import Step, add, read, write


class Preprocess(Step):
    def start(self) -> None:
        self._unknown_items, self._unknown_actions = self.counters(
            "footfall_dropped_events_total",
            "Events of requests dropped because the vocabulary does not know them.",
            "reason",
            ("unknown_item", "unknown_action"),
        )
        self.version.items.index(b"")  # builds the lookup before the first request

    def ask(self, request: Any) -> Request:
        return read_request(
            {tensor.name: read(request, tensor) for tensor in REQUEST}, self.version.max_top_k
        )

    def answer(self, asked: list[Request]) -> list[list[Any]]:
        indexed = to_indices(asked, self.version)
        add(self._unknown_items, sum(one.unknown_items for one in indexed))
        add(self._unknown_actions, sum(one.unknown_actions for one in indexed))
        return [self._written(one.inputs) for one in indexed]

    def _written(self, inputs: Indices) -> list[Any]:
        if self.version.backend == "tensorrt":
            inputs = padded(inputs, self.version.max_length)
        return [write(tensor, inputs[tensor.name]) for tensor in ENGINE_INPUTS]
