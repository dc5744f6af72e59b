"""Ranker: all requests of a dynamic batch in one engine call."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from footfall.contract import CANDIDATE_INDEX, ENGINE_INPUTS, ENGINE_OUTPUTS, EXCLUDED_INDEX
from footfall.history import ModelInput
from footfall_export.engine import Batch, IndexLists, load_engine, unpad_history, unpad_list
from footfall_serving.steps.step import Step, write


class Ranker(Step):
    def start(self) -> None:
        self._engine = load_engine(self.version)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        rows = [_row(request) for request in requests]
        scores = vars(self._engine.score(_batch(rows)))
        return [
            pb_utils.InferenceResponse([write(tensor, scores[tensor.name][row]) for tensor in ENGINE_OUTPUTS])
            for row in range(len(requests))
        ]


def _row(request: Any) -> dict[str, Any]:
    return {
        tensor.name: pb_utils.get_input_tensor_by_name(request, tensor.name).as_numpy()[0]
        for tensor in ENGINE_INPUTS
    }


def _batch(rows: list[dict[str, Any]]) -> Batch:
    histories = [unpad_history(row) for row in rows]
    lengths = [len(history.item) for history in histories]
    packed = ModelInput(
        np.concatenate([history.item for history in histories]),
        np.concatenate([history.action for history in histories]),
        np.concatenate([history.gap for history in histories]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
    excluded = IndexLists.of([unpad_list(row[EXCLUDED_INDEX.name]) for row in rows])
    candidate = IndexLists.of([unpad_list(row[CANDIDATE_INDEX.name]) for row in rows])
    return Batch(packed, excluded, candidate)
