"""Postprocess: indices of a plan that the server runs itself back to ids."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import ITEM_INDEX, ITEM_SCORE, TOP_K
from footfall.errors import InputError
from footfall_serving.request import read_top_k
from footfall_serving.steps.lister import Lister
from footfall_serving.steps.step import Step, read, read_row

Ranked = tuple[NDArray[np.int32], NDArray[np.float32], int]
"""Index and score of the best, best first, and how many of them are asked for."""


class Postprocess(Step):
    def start(self) -> None:
        self._lister = Lister(self)

    def ask(self, request: Any) -> Ranked:
        index, score = read_row(request, ITEM_INDEX), read_row(request, ITEM_SCORE)
        if len(index) != len(score):
            raise InputError(
                f"item_index has {len(index)} entries and item_score {len(score)}: they must match"
            )
        return index, score, read_top_k(read(request, TOP_K), self.version.max_top_k)

    def answer(self, asked: list[Ranked]) -> list[list[Any]]:
        return [self._lister.write(index[None], score[None], [top_k])[0] for index, score, top_k in asked]
