"""Preprocess: raw ids, actions and times to the indices the ranker reads."""

from typing import Any

from footfall.contract import ENGINE_INPUTS, REQUEST, REQUEST_SIGNATURE, USER_ID
from footfall_engines.batch import NOBODY
from footfall_engines.signature import Signer, request_parts
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
        self._signer = Signer(self.repository, "request")
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
        written = [write(tensor, indices[tensor.name]) for tensor in ENGINE_INPUTS]
        if self.version.backend == "tensorrt":  # the server runs the plan itself, which knows no signatures
            return written
        user = tensors[USER_ID.name]
        signature = self._signer.sign(request_parts(indices, NOBODY if user is None else user[0, 0]))
        return [*written, write(REQUEST_SIGNATURE, signature)]
