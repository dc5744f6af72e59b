"""TorchEngine: packed histories through torch and our kernels, on a CPU or a GPU; the reference of parity reports."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footfall_engines.batch import NOBODY, Batch, Scores
from footfall_engines.history_encoder import HistoryEncoder
from footfall_engines.version import PRECISIONS, Version
from footfall_kernels.catalogue_topk.catalogue_topk import catalogue_topk
from footfall_kernels.implementations import ImplementationName
from footfall_models.device import find_device, implementation_on
from footfall_models.graph import RankerGraph
from footfall_models.model import SequenceModel
from footfall_models.weights import load_weights


def torch_dtype(precision: str) -> torch.dtype:
    """Of a name in PRECISIONS."""
    dtype: torch.dtype = getattr(torch, PRECISIONS[precision])
    return dtype


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
        self._graph = RankerGraph(model, max_top_k, torch_dtype(precision)).to(self._device).eval()
        self._implementation = implementation_on(self._device, implementation)
        self._unlisted = self._graph.unlisted()
        self._encoder = HistoryEncoder(self._graph, self._device, self._implementation, cache_bytes)

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
        empty = np.diff(batch.history.offsets) == 0
        with torch.inference_mode():
            state = self._encoder.states(batch.history, batch.users or (NOBODY,) * len(empty))
            *said, vector = self._graph.describe(state, self._tensor(empty[:, None]))
            outputs = (*self._best(vector, empty, batch), *said, vector)
        return Scores.of(self._graph.heads, (output.cpu().numpy() for output in outputs))

    def _best(self, vector: Tensor, empty: NDArray[np.bool_], batch: Batch) -> tuple[Tensor, Tensor]:
        """The graph lists popular items and candidates; for all others the catalogue is searched by the kernel."""
        restricted = np.diff(batch.candidate.offsets) > 0
        index = torch.zeros(len(empty), self._graph.top_k, dtype=torch.int32, device=self._device)
        score = torch.zeros_like(index, dtype=torch.float32)
        if len(users := np.flatnonzero(~(empty | restricted))):
            rows, excluded = self._tensor(users), batch.excluded.take(users)
            index[rows], score[rows] = catalogue_topk(
                vector[rows],
                self._graph.scoring_table(),
                self._graph.top_k,
                implementation=self._implementation,
                excluded=(self._tensor(excluded.values), self._tensor(excluded.offsets)),
                unlisted=self._unlisted,
            )
        if len(users := np.flatnonzero(empty & ~restricted)):
            rows, excluded_index = self._tensor(users), self._tensor(batch.excluded.take(users).padded())
            index[rows], score[rows] = self._graph.best_of_popular(vector[rows], excluded_index)
        if len(users := np.flatnonzero(restricted)):
            rows = self._tensor(users)
            index[rows], score[rows] = self._graph.best_of_candidates(
                vector[rows],
                self._tensor(empty[users, None]),
                self._tensor(batch.excluded.take(users).padded()),
                self._tensor(batch.candidate.take(users).padded()),
            )
        return index, score

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)
