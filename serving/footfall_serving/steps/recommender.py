"""Recommender: the whole way from requests to answers, of an engine on a CPU, all of a dynamic batch in one pass."""

from typing import Any

from footfall_serving.request import Request
from footfall_serving.steps.reader import Reader
from footfall_serving.steps.scorer import Scorer
from footfall_serving.steps.step import Step


class Recommender(Step):
    def start(self) -> None:
        self._reader, self._scorer = Reader(self), Scorer(self)

    def ask(self, request: Any) -> Request:
        return self._reader.read(request)

    def answer(self, asked: list[Request]) -> list[list[Any]]:
        return self._scorer.answer(self._reader.batch(asked), [request.top_k for request in asked])
