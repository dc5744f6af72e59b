"""Export of a RankerGraph to ONNX, batch and every length free, names from the contract."""

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch.export import Dim

from footfall.contract import ENGINE_INPUTS, engine_outputs
from footfall_models.graph import RankerGraph

OPSET = 20
EXAMPLE_BATCH = 3
EXAMPLE_LENGTH = 5


def write_onnx(graph: RankerGraph, path: Path) -> None:
    """Write `graph` as one ONNX file, checked."""
    dims = {"batch": Dim.DYNAMIC, "free": Dim.DYNAMIC}
    example, shapes = [], []
    for tensor in ENGINE_INPUTS:
        free = tensor.dims == (-1,)
        example.append(torch.ones(EXAMPLE_BATCH, EXAMPLE_LENGTH if free else 1, dtype=torch.int32))
        shapes.append({0: dims["batch"], 1: dims["free"]} if free else {0: dims["batch"]})
    # torch 2.13's exporter warns of its own deprecated calls, and of torchvision, which is not needed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            graph.eval(),
            tuple(example),
            dynamo=True,
            dynamic_shapes=tuple(shapes),
            opset_version=OPSET,
            input_names=[tensor.name for tensor in ENGINE_INPUTS],
            output_names=[tensor.name for tensor in engine_outputs(graph.heads)],
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)
    onnx.checker.check_model(str(path))
