"""Postprocess: indices back to ids and names, the list cut to what was asked for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

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

Listed = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Index and score of what is listed."""


class Postprocess(Step):
    def start(self) -> None:
        self._actions = np.array(list(self.version.actions), dtype=np.object_)
        self._number = np.array([self.version.number], dtype=np.int64)

    def ask(self, request: Any) -> Listed:
        index, score = read_row(request, ITEM_INDEX), read_row(request, ITEM_SCORE)
        if len(index) != len(score):
            raise InputError(
                f"item_index has {len(index)} entries and item_score {len(score)}: they must match"
            )
        top_k = read_top_k(read(request, TOP_K), self.version.max_top_k)
        listed = np.flatnonzero(~np.isneginf(score))[:top_k]
        return index[listed], score[listed]

    def answer(self, asked: list[Listed]) -> list[list[Any]]:
        return [
            [
                write(RECOMMENDED_ID, np.array(self.version.items.ids(index), dtype=np.object_)),
                write(SCORE, score),
                write(ACTION_NAME, self._actions),
                write(MODEL_VERSION, self._number),
            ]
            for index, score in asked
        ]
