"""Export of a RankerGraph to ONNX, batch and every length free, names from the contract."""

import logging
import warnings
from pathlib import Path
from typing import Literal

import onnx
import torch
from onnx import helper
from torch.export import Dim

from footfall.contract import ENGINE_INPUTS, engine_outputs
from footfall_export.branches import branch_outputs, put_behind_branches
from footfall_export.fused import fused_reading
from footfall_export.shortlist import put_shortlist
from footfall_models.graph import BRANCHES, BranchingGraph, RankerGraph

Target = Literal["onnxruntime", "tensorrt"]
OPSETS: dict[Target, int] = {"onnxruntime": 23, "tensorrt": 20}
"""From 23 on attention is one operator: ONNX Runtime takes 3 % (8 histories of 50) to 10 % (one of 10 or 200) less;
tensorrt_rtx 1.7 builds no engine from it."""
MAPPED_FROM = 128 << 20
"""Bytes of a table that lies in a file beside the graph, from where ONNX Runtime maps it instead of copying it twice:
as it is, and packed for the matrix product. Unpacked, one user of 1 million items (256 MB) takes 11.7 ms instead of
8.5, 16 take 39 instead of 31; at 25 MB 1.3 instead of 0.9, which is not worth as few bytes. For few users of such a
table there is a shortlist (see shortlist.py)."""
BESIDE_FROM = 1 << 20
"""Bytes of other tensors that lie there too, where the table does."""
EXAMPLE_BATCH = 3
EXAMPLE_LENGTH = 5


def write_onnx(graph: RankerGraph, path: Path, *, target: Target) -> None:
    """Write `graph` as an ONNX file, checked; past MAPPED_FROM its tables into `<path>.data` beside it.

    For "onnxruntime" as a BranchingGraph, with the FusedReading of models that have one.
    """
    branches = target == "onnxruntime"
    dims = {"batch": Dim.DYNAMIC, "free": Dim.DYNAMIC}
    example, shapes = [], []
    for tensor in ENGINE_INPUTS:
        free = tensor.dims == (-1,)
        example.append(torch.ones(EXAMPLE_BATCH, EXAMPLE_LENGTH if free else 1, dtype=torch.int32))
        shapes.append({0: dims["batch"], 1: dims["free"]} if free else {0: dims["batch"]})
    names = [tensor.name for tensor in engine_outputs(graph.heads)]
    # torch 2.13's exporter warns of its own deprecated calls, and of torchvision, which is not needed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            (BranchingGraph(graph, fused_reading(graph)) if branches else graph).eval(),
            tuple(example),
            dynamo=True,
            dynamic_shapes=(tuple(shapes),) if branches else tuple(shapes),
            opset_version=OPSETS[target],
            input_names=[tensor.name for tensor in ENGINE_INPUTS],
            output_names=[*names, *branch_outputs(BRANCHES)] if branches else names,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    if branches:
        of_catalogue = put_behind_branches(model.graph, BRANCHES, graph.top_k)["catalogue"]
    tables = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= MAPPED_FROM]
    for table in tables:
        if branches and table.name in of_catalogue.node[0].input:
            put_shortlist(model, of_catalogue, table)
        # An input with a default value, which nobody gives: no constant, so ONNX Runtime packs no copy of it.
        model.graph.input.append(helper.make_tensor_value_info(table.name, table.data_type, table.dims))
    onnx.save_model(
        model,
        path,
        save_as_external_data=bool(tables),
        location=f"{path.name}.data",
        size_threshold=BESIDE_FROM,
    )
    onnx.checker.check_model(str(path))
