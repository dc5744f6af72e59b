"""OnnxRuntimeEngine: the default on a CPU."""

from collections.abc import Iterator

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from footfall.contract import CANDIDATE_INDEX, engine_outputs
from footfall_engines.batch import Batch, Scores, padded_inputs
from footfall_engines.version import ONNX_FILE, Version

THREADS = 1
"""Of one call. With 2, 32 histories of 50 events take 4.3 ms instead of 7.1 and one takes 0.31 ms as with 1 (12,101
items, width 64, 2 CPU cores); but the ensemble's other steps need the second core."""

SCORES_AT_ONCE = 1 << 24
"""64 MiB of them, 16 users of 1 million items: more take no less time a user, and the runtime keeps what it took."""

ERRORS = 3
"""Of the runtime's log levels: it would warn of a table that is an input, which is meant (see to_onnx)."""


class OnnxRuntimeEngine:
    cached_events = 0

    def __init__(self, version: Version) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS
        self._session = onnxruntime.InferenceSession(
            str(version.folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
        )
        self._max_length, self._heads = version.max_length, version.heads
        self._num_items, self._width = int(version.manifest["num_items"]), int(version.manifest["width"])

    def score(self, batch: Batch) -> Scores:
        inputs = padded_inputs(batch, self._max_length)
        names = [tensor.name for tensor in engine_outputs(self._heads)]
        parts = list(self._parts(inputs[CANDIDATE_INDEX.name]))
        if len(parts) == 1:
            return Scores.of(self._heads, self._session.run(names, inputs))
        answers = [
            self._session.run(names, {name: array[users] for name, array in inputs.items()})
            for users in parts
        ]
        back = np.argsort(np.concatenate(parts))
        return Scores.of(
            self._heads, (np.concatenate(outputs)[back] for outputs in zip(*answers, strict=True))
        )

    def _parts(self, candidate: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
        """The users of each run: with candidates or without, as the catalogue is scored for all users of a run."""
        restricted = candidate.any(axis=1)
        for users, scores in (
            (np.flatnonzero(~restricted), self._num_items + 1),
            (np.flatnonzero(restricted), candidate.shape[1] * self._width),
        ):
            at_once = max(SCORES_AT_ONCE // scores, 1)
            yield from (users[start : start + at_once] for start in range(0, len(users), at_once))
