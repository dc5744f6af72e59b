"""Ranker: all requests of a dynamic batch in one engine call."""

from collections.abc import Sequence
from typing import Any

import triton_python_backend_utils as pb_utils

from footfall.contract import CANDIDATE_INDEX, ENGINE_INPUTS, EXCLUDED_INDEX, USER_ID, engine_outputs
from footfall_engines.batch import NOBODY, Batch, IndexLists, join_histories, unpad_list
from footfall_engines.engine import load_engine
from footfall_serving.steps.step import Step, read, write


class Ranker(Step):
    def start(self) -> None:
        self._engine = load_engine(self.version)
        self._outputs = engine_outputs(self.version.heads)
        self._computed, self._cached = self.counters(
            "footfall_history_events_total",
            "Events of requests' histories, computed or known from a request before.",
            "source",
            ("computed", "cache"),
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        rows = [_row(request) for request in requests]
        batch, before = _batch(rows), self._engine.cached_events
        scores = self._engine.score(batch).outputs
        cached = self._engine.cached_events - before
        self._cached.increment(cached)
        self._computed.increment(len(batch.history.item) - cached)
        return [
            pb_utils.InferenceResponse([write(tensor, scores[tensor.name][row]) for tensor in self._outputs])
            for row in range(len(requests))
        ]


def _row(request: Any) -> dict[str, Any]:
    """Tensors without batch axis; user_id is missing where the client did not send it."""
    tensors = {tensor.name: read(request, tensor) for tensor in (*ENGINE_INPUTS, USER_ID)}
    return {name: values[0] for name, values in tensors.items() if values is not None}


def _batch(rows: list[dict[str, Any]]) -> Batch:
    excluded = IndexLists.of([unpad_list(row[EXCLUDED_INDEX.name]) for row in rows])
    candidate = IndexLists.of([unpad_list(row[CANDIDATE_INDEX.name]) for row in rows])
    users = tuple(bytes(row[USER_ID.name][0]) if USER_ID.name in row else NOBODY for row in rows)
    return Batch(join_histories(rows), excluded, candidate, users)
