"""Build of a TensorRT engine from ONNX; needs no GPU with tensorrt_rtx."""

from pathlib import Path
from typing import Any

from footfall.contract import (
    CANDIDATE_INDEX,
    ENGINE_INPUTS,
    EXCLUDED_INDEX,
    MAX_BATCH,
    MAX_CANDIDATES,
    MAX_SEEN,
)
from footfall.errors import InputError
from footfall_engines.tensorrt_library import tensorrt_library

TYPICAL_BATCH = 8
TYPICAL_LENGTH = 32


def write_plan(onnx_file: Path, path: Path, max_length: int) -> None:
    """Parse `onnx_file`, whose tensors carry the precision, and write the serialised engine.

    Raises InputError with the parser's first complaint where TensorRT cannot take the graph.
    """
    tensorrt = tensorrt_library()
    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
    config = builder.create_builder_config()
    config.add_optimization_profile(_profile(builder, max_length))
    plan = builder.build_serialized_network(parse(builder, onnx_file), config)
    if plan is None:
        raise InputError(f"TensorRT built no engine from {onnx_file.name}; its log is above")
    path.write_bytes(plan)


def parse(builder: Any, onnx_file: Path) -> Any:
    """The builder's network of `onnx_file`. Raises InputError where TensorRT does not take the graph."""
    tensorrt = tensorrt_library()
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(onnx_file)):
        raise InputError(f"TensorRT does not take {onnx_file.name}: {parser.get_error(0).desc()}")
    return network


def _profile(builder: Any, max_length: int) -> Any:
    """Smallest, typical and largest shape of every input."""
    longest = {EXCLUDED_INDEX.name: MAX_SEEN, CANDIDATE_INDEX.name: MAX_CANDIDATES}
    profile = builder.create_optimization_profile()
    for tensor in ENGINE_INPUTS:
        length = longest.get(tensor.name, max_length) if tensor.dims == (-1,) else 1
        typical = min(TYPICAL_LENGTH, length)
        profile.set_shape(tensor.name, (1, 1), (TYPICAL_BATCH, typical), (MAX_BATCH, length))
    return profile
