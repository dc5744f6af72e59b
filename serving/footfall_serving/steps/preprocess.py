"""Preprocess: raw ids, actions and times to the indices that a ranker of its own reads."""

from typing import Any

from footfall.contract import ENGINE_INPUTS
from footfall_engines.batch import Row, padded, split
from footfall_serving.request import Request
from footfall_serving.steps.reader import Reader
from footfall_serving.steps.step import Step, write


class Preprocess(Step):
    def start(self) -> None:
        self._reader = Reader(self)

    def ask(self, request: Any) -> Request:
        return self._reader.read(request)

    def answer(self, asked: list[Request]) -> list[list[Any]]:
        return [self._written(row) for row in split(self._reader.batch(asked))]

    def _written(self, row: Row) -> list[Any]:
        if self.version.backend == "tensorrt":
            row = padded(row, self.version.max_length)
        return [write(tensor, row[tensor.name]) for tensor in ENGINE_INPUTS]
