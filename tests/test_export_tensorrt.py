"""The native ranker's configuration against the network TensorRT itself parses."""

from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2 as pb

from footfall.contract import HEADS, MAX_BATCH, RANKER
from footfall.errors import InputError, NotReadyError
from footfall_engines.model_configs import step_config
from footfall_engines.repository import Repository
from footfall_engines.tensorrt_library import tensorrt_library
from footfall_engines.torch_engine import torch_dtype
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_export.to_onnx import write_onnx
from footfall_export.to_tensorrt import parse
from footfall_models.graph import RankerGraph
from footfall_training.checkpoint import Checkpoint

TYPES = {"INT32": pb.TYPE_INT32, "FLOAT": pb.TYPE_FP32}


def a_builder() -> Any:
    tensorrt = tensorrt_library()
    return tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))


def fits(dims: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    """How the server's tensorrt backend compares shapes: -1 on either side fits everything."""
    return len(dims) == len(declared) and all(
        mine == theirs or -1 in (mine, theirs) for mine, theirs in zip(dims, declared, strict=True)
    )


def test_the_native_config_has_the_names_types_and_shapes_of_the_network(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    builder = a_builder()
    write_onnx(
        RankerGraph(Checkpoint.open(tiny_checkpoint).load_model(), 100),
        tmp_path / "model.onnx",
        target="tensorrt",
    )
    network = parse(builder, tmp_path / "model.onnx")
    config = step_config(RANKER, [1], "tensorrt", HEADS)
    assert config.max_batch_size == MAX_BATCH
    inputs = [network.get_input(place) for place in range(network.num_inputs)]
    outputs = [network.get_output(place) for place in range(network.num_outputs)]
    for tensors, declared in ((inputs, config.input), (outputs, config.output)):
        assert [tensor.name for tensor in tensors] == [entry.name for entry in declared]
        for tensor, entry in zip(tensors, declared, strict=True):
            assert TYPES[tensor.dtype.name] == entry.data_type
            assert tensor.shape[0] == -1
            assert fits(tuple(tensor.shape), (-1, *entry.dims))


def test_the_encoder_is_in_the_precision_asked_for_and_the_scores_are_not(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    model = Checkpoint.open(tiny_checkpoint).load_model()
    write_onnx(RankerGraph(model, 100, torch_dtype("bf16")), tmp_path / "half.onnx", target="tensorrt")
    builder = a_builder()
    network = parse(builder, tmp_path / "half.onnx")
    tensorrt = tensorrt_library()
    layers = [network.get_layer(place) for place in range(network.num_layers)]
    softmax = [layer.get_output(0).dtype.name for layer in layers if layer.type == tensorrt.LayerType.SOFTMAX]
    top_k = [layer.get_output(0).dtype.name for layer in layers if layer.type == tensorrt.LayerType.TOPK]
    products = [
        layer.get_output(0).dtype.name for layer in layers if layer.type == tensorrt.LayerType.MATRIX_MULTIPLY
    ]
    assert top_k == ["FLOAT"]
    assert softmax[-1] == "FLOAT"
    assert set(products) == {"BF16", "FLOAT"}
    assert products.count("FLOAT") == 1


def test_a_plan_the_server_would_not_read_is_not_exported_for_it(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    if tensorrt_library().__name__ == "tensorrt":
        pytest.skip("tensorrt itself is installed, whose plans the server reads")
    with pytest.raises(NotReadyError, match=r"does not read the engines of tensorrt_rtx \d+\.\d+"):
        export(tiny_checkpoint, tmp_path, ExportOptions(engine="tensorrt", backend="tensorrt"))
    assert Repository(tmp_path).numbers() == []


def test_a_graph_tensorrt_does_not_take_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"TensorRT does not take broken\.onnx: "):
        parse(a_builder(), tmp_path / "broken.onnx")
