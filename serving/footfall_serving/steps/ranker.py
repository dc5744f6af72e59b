"""Ranker: all requests of a dynamic batch in one engine call."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import (
    CANDIDATE_INDEX,
    ENGINE_INPUTS,
    EXCLUDED_INDEX,
    USER_ID,
    engine_outputs,
)
from footfall_engines.batch import (
    NOBODY,
    Batch,
    IndexLists,
    check_history,
    join_histories,
    unpad_list,
)
from footfall_engines.engine import load_engine
from footfall_serving.steps.step import Step, add, read, read_row, write

Row = dict[str, NDArray[Any]]
"""contract.ENGINE_INPUTS without batch axis, and user_id [1], NOBODY where it was left out."""
EMPTY: Row = {
    **{tensor.name: np.zeros(1, np.int32) for tensor in ENGINE_INPUTS},
    USER_ID.name: np.array([NOBODY], np.object_),
}


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
        self._engine.score(self._batch([EMPTY]))  # so that the first request does not pay for lazy set-up

    def ask(self, request: Any) -> Row:
        row = {tensor.name: read_row(request, tensor) for tensor in ENGINE_INPUTS}
        user = read(request, USER_ID)
        row[USER_ID.name] = np.array([NOBODY], np.object_) if user is None else user[0]
        return row

    def answer(self, asked: list[Row]) -> list[list[Any]]:
        batch, before = self._batch(asked), self._engine.cached_events
        scores = self._engine.score(batch).outputs
        cached = self._engine.cached_events - before
        add(self._cached, cached)
        add(self._computed, len(batch.history.item) - cached)
        return [
            [write(tensor, scores[tensor.name][row]) for tensor in self._outputs] for row in range(len(asked))
        ]

    def _batch(self, rows: list[Row]) -> Batch:
        history = join_histories(rows)
        check_history(history, self.version)
        excluded = IndexLists.of([unpad_list(row[EXCLUDED_INDEX.name]) for row in rows])
        candidate = IndexLists.of([unpad_list(row[CANDIDATE_INDEX.name]) for row in rows])
        return Batch(history, excluded, candidate, tuple(bytes(row[USER_ID.name][0]) for row in rows))
