"""TensorRTEngine: runs a plan on an NVIDIA GPU; torch only holds its buffers."""

import numpy as np
import torch
from numpy.typing import NDArray

from footfall.contract import engine_outputs
from footfall.errors import InputError, NotReadyError
from footfall_engines.batch import Batch, Scores, padded_inputs
from footfall_engines.tensorrt_library import library_version, tensorrt_library
from footfall_engines.version import PLAN_FILE, Version

DATA_TYPES = {"INT32": torch.int32, "FP32": torch.float32}


class TensorRTEngine:
    cached_events = 0

    def __init__(self, version: Version) -> None:
        if not torch.cuda.is_available():
            raise NotReadyError(
                f"running a TensorRT engine needs an NVIDIA GPU and torch {torch.__version__} sees none"
            )
        tensorrt = tensorrt_library()
        runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        self._engine = runtime.deserialize_cuda_engine((version.folder / PLAN_FILE).read_bytes())
        if self._engine is None:
            raise NotReadyError(
                f"{version.folder / PLAN_FILE} was built with {version.manifest['built_with']};"
                f" {library_version()} does not take it on this GPU, export the checkpoint here"
            )
        self._context = self._engine.create_execution_context()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._max_length, self._heads = version.max_length, version.heads

    def score(self, batch: Batch) -> Scores:
        with torch.cuda.stream(self._stream):
            buffers = [self._set_input(*item) for item in padded_inputs(batch, self._max_length).items()]
            outputs = [
                self._set_output(tensor.name, DATA_TYPES[tensor.data_type])
                for tensor in engine_outputs(self._heads)
            ]
            self._context.execute_async_v3(self._stream.cuda_stream)
            scores = Scores.of(self._heads, (output.cpu().numpy() for output in outputs))
        del buffers  # held until the stream was done with them
        return scores

    def _set_input(self, name: str, array: NDArray[np.int32]) -> torch.Tensor:
        buffer = torch.from_numpy(array).cuda(non_blocking=True)
        if not self._context.set_input_shape(name, tuple(array.shape)):
            raise InputError(f"{name} has shape {array.shape}, more than the engine was built for")
        self._context.set_tensor_address(name, buffer.data_ptr())
        return buffer

    def _set_output(self, name: str, data_type: torch.dtype) -> torch.Tensor:
        buffer = torch.empty(tuple(self._context.get_tensor_shape(name)), dtype=data_type, device="cuda")
        self._context.set_tensor_address(name, buffer.data_ptr())
        return buffer
