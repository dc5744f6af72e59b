"""Scorer: a batch through the version's engine to the tensors of each user's response."""

from dataclasses import replace
from typing import Any

import numpy as np

from footfall.contract import HEADS, HISTORY_COLUMNS, USER_VECTOR
from footfall.history import ModelInput
from footfall_engines.batch import NOBODY, Batch, IndexLists
from footfall_engines.engine import load_engine
from footfall_engines.kept_answers import KeptAnswers
from footfall_serving.response_cache import share_of
from footfall_serving.steps.lister import Lister
from footfall_serving.steps.step import Step, write


class Scorer:
    def __init__(self, step: Step) -> None:
        self._engine, self._lister = load_engine(step.version), Lister(step)
        if cache_bytes := share_of(step.num_instances):
            self._engine = KeptAnswers(self._engine, cache_bytes)
        self._said = (*(HEADS[head] for head in step.version.heads), USER_VECTOR)
        self._history_events = step.counters.counter(
            "footfall_history_events_total",
            "Events of requests' histories, computed or known from a request before.",
            "source",
            ("computed", "cache"),
        )
        self._engine.score(_nobody())  # so that the first request does not pay for lazy set-up

    def answer(self, batch: Batch, top_k: list[int]) -> list[list[Any]]:
        """contract.response of each user, whose list is to hold top_k items at most."""
        before = self._engine.cached_events
        scores = self._engine.score(replace(batch, top_k=max(top_k)))
        cached = self._engine.cached_events - before
        self._history_events.add_all((len(batch.history.item) - cached, cached))
        lists = self._lister.write(scores.item_index, scores.item_score, top_k)
        return [
            [*listed, *(write(tensor, scores.outputs[tensor.name][user]) for tensor in self._said)]
            for user, listed in enumerate(lists)
        ]


def _nobody() -> Batch:
    """One user without any event."""
    none, offsets = np.zeros(0, np.int32), np.zeros(2, np.int64)
    history, lists = ModelInput.of([none] * len(HISTORY_COLUMNS), offsets), IndexLists(none, offsets)
    return Batch(history, lists, lists, (NOBODY,))
