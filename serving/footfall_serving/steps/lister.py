"""Lister: an engine's indices as the ids and names of its version, each list cut to what was asked for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import ACTION_NAME, MODEL_VERSION, RECOMMENDED_ID, SCORE
from footfall_serving.steps.step import Step, write

SCORES = (-20, -10, -5, -2, 0, 2, 5, 10, 15, 20, 30, 50)


class Lister:
    def __init__(self, step: Step) -> None:
        version = step.version
        self._best = step.counters.histogram(
            "footfall_best_score",
            "Score of the best item of each list; of an empty list there is none.",
            SCORES,
            falls=True,
        )
        self._items = version.items
        # Made once: the stub copies a tensor into shared memory with the first response it is part of, and the server
        # reads it there of each that follows.
        self._always = [
            write(ACTION_NAME, np.array(list(version.actions), dtype=np.object_)),
            write(MODEL_VERSION, np.array([version.number], dtype=np.int64)),
        ]

    def write(
        self, index: NDArray[np.int32], score: NDArray[np.float32], top_k: list[int]
    ) -> list[list[Any]]:
        """Lists of users, index and score [users, k], best first, as tensors of contract.response; top_k: of each."""
        listed = ~np.isneginf(score) & (np.arange(score.shape[1]) < np.array(top_k)[:, None])
        ids = np.array(self._items.ids(index[listed]), dtype=np.object_)
        scores, ends = score[listed], np.cumsum(listed.sum(axis=1)).tolist()
        self._best.add(score[listed[:, 0], 0].tolist())
        return [
            [
                write(RECOMMENDED_ID, ids[start:end]),
                write(SCORE, scores[start:end]),
                *self._always,
            ]
            for start, end in zip([0, *ends], ends, strict=False)
        ]
