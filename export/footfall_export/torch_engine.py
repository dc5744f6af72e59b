"""TorchEngine: packed histories through torch and our kernels, on a CPU or a GPU; the reference of parity reports."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footfall_export.engine import NOBODY, Batch, Scores, padded_inputs
from footfall_export.graph import RankerGraph
from footfall_export.history_encoder import HistoryEncoder
from footfall_export.version import Version
from footfall_training.checkpoint import load_weights
from footfall_training.device import find_device, implementation_on
from footfall_training.model import SequenceModel
from footfall_training.options import ImplementationName

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchEngine:
    """Takes histories packed, never padded. implementation None: the device's; cache_bytes 0: nothing is kept."""

    def __init__(
        self,
        model: SequenceModel,
        max_top_k: int,
        precision: str,
        device: str,
        *,
        implementation: ImplementationName | None = None,
        cache_bytes: int = 0,
    ) -> None:
        self._device = find_device(device)
        self._graph = RankerGraph(model, max_top_k, PRECISIONS[precision]).to(self._device).eval()
        self._max_length = model.config.max_length
        implementation = implementation_on(self._device, implementation)
        self._encoder = HistoryEncoder(self._graph, self._device, implementation, cache_bytes)

    @classmethod
    def load(cls, version: Version) -> "TorchEngine":
        return cls(
            load_weights(version.folder),
            version.max_top_k,
            version.precision,
            version.device,
            implementation=version.implementation,
            cache_bytes=version.cache_bytes,
        )

    @property
    def cached_events(self) -> int:
        return self._encoder.cached_events

    def score(self, batch: Batch) -> Scores:
        inputs = padded_inputs(batch, self._max_length)
        num_users = len(batch.history.offsets) - 1
        with torch.inference_mode():
            outputs = self._graph.rank(
                self._encoder.states(batch.history, batch.users or (NOBODY,) * num_users),
                *(
                    self._tensor(inputs[name])
                    for name in ("history_length", "excluded_index", "candidate_index")
                ),
            )
        return Scores(*(output.cpu().numpy() for output in outputs))

    def _tensor(self, array: NDArray[np.integer[Any]]) -> Tensor:
        return torch.from_numpy(array).to(self._device)
