"""OnnxRuntimeEngine: the default on a CPU."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from footfall.contract import TOP_K, engine_outputs
from footfall_engines.batch import Batch, Scores, known_history, largest_indices, padded_inputs
from footfall_engines.tuning import Tuning
from footfall_engines.version import ONNX_FILE, Version

SCORES_AT_ONCE = 1 << 24
"""64 MiB of them, 16 users of 1 million items: more take no less time a user, and the runtime keeps what it took."""

RUN = 50.0
"""What a run costs beside its events, in events."""
A_RUNS_TABLE = 40_000
"""So many numbers of the item table, which each run reads, cost as much as an event. A batch of 12 users of 1 to 200
events, 18 in the mean, takes 1.9 ms in such runs, in one 5.1, each user by himself 4.1 (8,140 items, width 128)."""

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
        # MB instead of 158, and one for every shape there was; without patterns a call takes 5 us longer.
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(
            str(version.folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
        )
        self._max_length, self._max_top_k = version.max_length, version.max_top_k
        self._heads = version.heads
        self._largest = largest_indices(self._num_items, len(version.manifest["actions"]))
        self._outputs = [tensor.name for tensor in engine_outputs(self._heads)]

    def score(self, batch: Batch) -> Scores:
        parts = list(self._parts(batch))
        if len(parts) == 1:
            return self._run(batch)
        answers = [self._run(batch.take(users)) for users in parts]
        back = np.argsort(np.concatenate(parts))
        outputs = (answer.outputs.values() for answer in answers)
        return Scores.of(self._heads, (np.concatenate(rows)[back] for rows in zip(*outputs, strict=True)))

    def _run(self, batch: Batch) -> Scores:
        # To the longest and no further: 16 users of 10 events take 0.96 ms, padded to 16 events 1.21.
        batch = replace(batch, history=known_history(batch.history, self._largest))
        inputs = padded_inputs(batch, self._max_length, lambda longest: max(longest, 1))
        # The best 20 and not 100 of 8,141 items take 0.27 ms instead of 0.45 for 8 users, 0.85 instead of 2.0 for 32.
        top_k = np.array([batch.top_k or self._max_top_k])
        return Scores.of(self._heads, self._session.run(self._outputs, inputs | {TOP_K.name: top_k}))

    def _parts(self, batch: Batch) -> Iterator[NDArray[np.int64]]:
        """The users of each run: with candidates or without, as the catalogue is scored for all users of a run, and
        of histories not too unlike in length, as all are padded to the longest.
        """
        lengths, candidates = np.diff(batch.history.offsets), np.diff(batch.candidate.offsets)
        if len(lengths) == 1:
            yield np.zeros(1, np.int64)
            return
        table = self._num_items * self._width
        for users, scores, cost in (
            (np.flatnonzero(candidates == 0), self._num_items + 1, RUN + table / A_RUNS_TABLE),
            (np.flatnonzero(candidates), int(candidates.max(initial=1)) * self._width, RUN),
        ):
            at_once = max(SCORES_AT_ONCE // scores, 1)
            for alike in _alike(users, lengths, cost):
                yield from (alike[start : start + at_once] for start in range(0, len(alike), at_once))


def _alike(users: NDArray[np.int64], lengths: NDArray[np.int64], cost: float) -> Iterator[NDArray[np.int64]]:
    """The longest histories first, and more until padding them is worth more events than another run costs."""
    users = users[np.argsort(-lengths[users], kind="stable")]
    start, padding = 0, 0
    ordered: list[int] = lengths[users].tolist()
    for place, length in enumerate(ordered):
        padding += ordered[start] - length
        if padding > cost:
            yield users[start:place]
            start, padding = place, 0
    if len(users):
        yield users[start:]
