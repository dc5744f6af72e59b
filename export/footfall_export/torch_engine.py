"""TorchEngine: packed histories through torch itself, on a CPU or a GPU; the reference of every parity report."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footfall_export.engine import Batch, Scores, padded_inputs
from footfall_export.graph import RankerGraph
from footfall_export.version import Version
from footfall_training.checkpoint import load_weights
from footfall_training.device import find_device
from footfall_training.model import SequenceModel

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchEngine:
    """Takes histories packed, never padded."""

    def __init__(self, model: SequenceModel, max_top_k: int, precision: str, device: str) -> None:
        self._device = find_device(device)
        self._graph = RankerGraph(model, max_top_k, PRECISIONS[precision]).to(self._device).eval()
        self._max_length = model.config.max_length

    @classmethod
    def load(cls, version: Version) -> "TorchEngine":
        return cls(load_weights(version.folder), version.max_top_k, version.precision, version.device)

    def score(self, batch: Batch) -> Scores:
        inputs = padded_inputs(batch, self._max_length)
        with torch.inference_mode():
            outputs = self._graph.rank(
                self._states(batch),
                *(
                    self._tensor(inputs[name])
                    for name in ("history_length", "excluded_index", "candidate_index")
                ),
            )
        return Scores(*(output.cpu().numpy() for output in outputs))

    def _states(self, batch: Batch) -> Tensor:
        """After each history's last event [users, width]; zeros for an empty one."""
        history, model = batch.history, self._graph.model
        lengths = np.diff(history.offsets)
        states = model.item_table().new_zeros(len(lengths), model.config.width)
        filled = np.flatnonzero(lengths)
        if len(filled):
            columns = (self._tensor(column) for column in (history.item, history.action, history.gap))
            offsets = np.concatenate([[0], np.cumsum(lengths[filled])])
            hidden = model.encode(*self._graph.known_events(*columns), self._tensor(offsets))
            states[self._tensor(filled)] = hidden[self._tensor(history.offsets[1:][filled] - 1)]
        return states

    def _tensor(self, array: NDArray[np.integer[Any]]) -> Tensor:
        return torch.from_numpy(array).to(self._device)
