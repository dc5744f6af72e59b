"""Ranker: what preprocess read, to answers, all requests of a dynamic batch in one engine call."""

from dataclasses import dataclass
from typing import Any

from footfall.contract import ENGINE_INPUTS, TOP_K, USER_ID
from footfall_engines.batch import NOBODY, Row, join
from footfall_serving.request import read_top_k
from footfall_serving.steps.scorer import Scorer
from footfall_serving.steps.step import Step, read, read_row


@dataclass(frozen=True)
class Asked:
    row: Row
    user: bytes
    top_k: int


class Ranker(Step):
    def start(self) -> None:
        self._scorer = Scorer(self)

    def ask(self, request: Any) -> Asked:
        row = {tensor.name: read_row(request, tensor) for tensor in ENGINE_INPUTS}
        user = read(request, USER_ID)
        top_k = read_top_k(read(request, TOP_K), self.version.max_top_k)
        return Asked(row, NOBODY if user is None else bytes(user[0][0]), top_k)

    def answer(self, asked: list[Asked]) -> list[list[Any]]:
        batch = join([one.row for one in asked], (one.user for one in asked), self.version)
        return self._scorer.answer(batch, [one.top_k for one in asked])
