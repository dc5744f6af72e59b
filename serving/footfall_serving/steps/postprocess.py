"""Postprocess: indices back to ids and names, the list cut to what was asked for."""

from typing import Any

import numpy as np

from footfall.contract import (
    ACTION_NAME,
    ITEM_INDEX,
    ITEM_SCORE,
    MODEL_VERSION,
    RECOMMENDED_ID,
    SCORE,
    TOP_K,
)
from footfall.errors import InputError
from footfall_serving.request import read_top_k
from footfall_serving.steps.step import Step, read, read_row, write


class Postprocess(Step):
    def start(self) -> None:
        self._actions = np.array(list(self.version.actions), dtype=np.object_)

    def answer(self, request: Any) -> list[Any]:
        index, score = read_row(request, ITEM_INDEX), read_row(request, ITEM_SCORE)
        if len(index) != len(score):
            raise InputError(
                f"item_index has {len(index)} entries and item_score {len(score)}: they must match"
            )
        top_k = read_top_k(read(request, TOP_K), self.version.max_top_k)
        listed = np.flatnonzero(~np.isneginf(score))[:top_k]
        ids = self.version.items.ids(index[listed])
        return [
            write(RECOMMENDED_ID, np.array(ids, dtype=np.object_)),
            write(SCORE, score[listed]),
            write(ACTION_NAME, self._actions),
            write(MODEL_VERSION, np.array([self.version.number], dtype=np.int64)),
        ]
