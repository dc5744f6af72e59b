"""OnnxRuntimeEngine: the default on a CPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from footfall.contract import CANDIDATE_INDEX, MAX_BATCH, TOP_K, engine_outputs
from footfall_engines.batch import Batch, Scores, padded_inputs
from footfall_engines.tuning import Tuning
from footfall_engines.version import ONNX_FILE, Version

SCORES_AT_ONCE = 1 << 24
"""64 MiB of them, 16 users of 1 million items: more take no less time a user, and the runtime keeps what it took."""

ERRORS = 3
"""Of the runtime's log levels: it would warn of a table that is an input, which is meant (see to_onnx)."""


class OnnxRuntimeEngine:
    cached_events = 0

    def __init__(self, version: Version) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = Tuning.of(version.folder.parent.parent).threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS
        self._num_items, self._width = int(version.manifest["num_items"]), int(version.manifest["width"])
        # A pattern keeps a block for all that a batch's shapes ever held at once, of 16 users of 1 million items 253
        # MB instead of 158; without patterns a call takes 5 us longer.
        options.enable_mem_pattern = MAX_BATCH * self._num_items < SCORES_AT_ONCE
        self._session = onnxruntime.InferenceSession(
            str(version.folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
        )
        self._max_length, self._max_top_k = version.max_length, version.max_top_k
        self._heads = version.heads
        self._outputs = [tensor.name for tensor in engine_outputs(self._heads)]

    def score(self, batch: Batch) -> Scores:
        inputs = padded_inputs(batch, self._max_length)
        # The best 20 and not 100 of 8,141 items take 0.27 ms instead of 0.45 for 8 users, 0.85 instead of 2.0 for 32.
        top_k = {TOP_K.name: np.array([batch.top_k or self._max_top_k])}
        parts = list(self._parts(inputs[CANDIDATE_INDEX.name]))
        if len(parts) == 1:
            return self._run(inputs | top_k)
        answers = [
            self._run({name: array[users] for name, array in inputs.items()} | top_k) for users in parts
        ]
        back = np.argsort(np.concatenate(parts))
        outputs = (answer.outputs.values() for answer in answers)
        return Scores.of(self._heads, (np.concatenate(rows)[back] for rows in zip(*outputs, strict=True)))

    def _run(self, inputs: dict[str, NDArray[Any]]) -> Scores:
        return Scores.of(self._heads, self._session.run(self._outputs, inputs))

    def _parts(self, candidate: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
        """The users of each run: with candidates or without, as the catalogue is scored for all users of a run."""
        restricted = candidate.any(axis=1)
        for users, scores in (
            (np.flatnonzero(~restricted), self._num_items + 1),
            (np.flatnonzero(restricted), candidate.shape[1] * self._width),
        ):
            at_once = max(SCORES_AT_ONCE // scores, 1)
            yield from (users[start : start + at_once] for start in range(0, len(users), at_once))
