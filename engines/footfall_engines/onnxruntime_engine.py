"""OnnxRuntimeEngine: the default on a CPU."""

import onnxruntime

from footfall.contract import engine_outputs
from footfall_engines.batch import Batch, Scores, padded_inputs
from footfall_engines.version import ONNX_FILE, Version

THREADS = 1
"""Of one call. With 2, 32 histories of 50 events take 4.3 ms instead of 7.1 and one takes 0.31 ms as with 1 (12,101
items, width 64, 2 CPU cores); but the ensemble's other steps need the second core."""


class OnnxRuntimeEngine:
    cached_events = 0

    def __init__(self, version: Version) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(version.folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
        )
        self._max_length, self._heads = version.max_length, version.heads

    def score(self, batch: Batch) -> Scores:
        names = [tensor.name for tensor in engine_outputs(self._heads)]
        return Scores.of(self._heads, self._session.run(names, padded_inputs(batch, self._max_length)))
