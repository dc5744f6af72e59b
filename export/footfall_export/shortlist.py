"""Shortlist: of a large catalogue, the best for few users by a quarter of the table's bytes, then exactly.

One user's product with 1 million rows of fp32 takes as long as memory takes to give 256 MB. So each row lies in the
file again in whole numbers, 64 MB: by these SHORTLIST items are found, which are then scored by their rows of fp32.
No item beside them can be among the best as long as the last of the best is better than the last of the shortlist by
more than the whole numbers can be wrong; where that does not hold, the catalogue is scored whole.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from footfall.contract import TOP_K

FEW = 8
"""Users for whom it is tried: for 16 the product takes as long in whole numbers."""
SHORTLIST = 1024
"""Of 512, lists of 100 were not certain where rows are of very unlike lengths (lognormal, 0.5)."""
BLOCK = 64
"""Numbers of a row that share a scale, at most; a power of 2."""
LARGEST = 63
"""Of the whole numbers, beside which stand those of the users, of 8 bits: with more than 7 bits a sum of two products
does not fit into the 16 bits that some processors have for it."""
ROUNDING = 1e-5
"""Of sums in fp32, relative."""
MICROSOFT = "com.microsoft"
CHUNK = 1 << 16
SHORT = ("short_score", "short_index", "short_certain")


def put_shortlist(model: onnx.ModelProto, branch: onnx.GraphProto, table: onnx.TensorProto) -> None:
    """In the branch that lists the best of the catalogue, which `table` fp32 [rows, width] holds."""
    product, add, exclusion, ranking = branch.node[:4]
    kinds = [node.op_type for node in (product, add, exclusion, ranking)]
    assert kinds == ["Gemm", "Add", "ScatterElements", "TopK"], kinds
    vector, bias, excluded = product.input[0], add.input[1], list(exclusion.input[1:])
    rows = numpy_helper.to_array(table)
    constants, bounds = _in_whole_numbers(rows)
    if all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    found = _found(vector, table.name, bias, excluded, rows.shape, bounds)
    # In the branch's own graph: ONNX Runtime 1.32 packs for a branch in a branch nothing of the graph around both.
    found.initializer.extend(
        numpy_helper.from_array(value, f"short_{name}") for name, value in constants.items()
    )
    score, index = ranking.output
    nodes = [
        *_few(vector),
        _if("short_few", SHORT, found, _nothing()),
        _if("short_certain", (score, index), _as_they_are(), _whole(list(branch.node[:4]))),
        *branch.node[4:],
    ]
    del branch.node[:]
    branch.node.extend(nodes)


def _in_whole_numbers(
    rows: NDArray[np.float32],
) -> tuple[dict[str, NDArray[np.generic]], tuple[float, float]]:
    """What MatMulNBits takes of the rows, and the largest length of what it leaves of a row, and of a row."""
    count, width = rows.shape
    block = _block(width)
    blocks = -(-width // block)
    whole = np.empty((count, blocks, block), np.uint8)
    scale = np.empty((count, blocks), np.float32)
    left = longest = 0.0
    for start in range(0, count, CHUNK):
        part = rows[start : start + CHUNK]
        padded = np.pad(part, ((0, 0), (0, blocks * block - width))).reshape(-1, blocks, block)
        step = np.maximum(np.abs(padded).max(axis=2, keepdims=True) / LARGEST, np.finfo(np.float32).tiny)
        near = np.rint(padded / step)
        whole[start : start + CHUNK], scale[start : start + CHUNK] = near + LARGEST + 1, step[:, :, 0]
        left = max(left, float(np.sqrt(np.square(padded - near * step).sum(axis=(1, 2)).max())))
        longest = max(longest, float(np.sqrt(np.square(part).sum(axis=1).max())))
    zero = np.full((count, blocks), LARGEST + 1, np.uint8)
    return {"rows": whole, "scale": scale, "zero": zero}, (left, longest)


def _block(width: int) -> int:
    return min(BLOCK, max(16, 1 << (width - 1).bit_length()))


def _few(vector: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Shape", [vector], ["short_users"], start=0, end=1),
        _constant("short_most", np.array([FEW])),
        helper.make_node("LessOrEqual", ["short_users", "short_most"], ["short_few"]),
    ]


def _found(
    vector: str,
    table: str,
    bias: str,
    excluded: list[str],
    shape: tuple[int, ...],
    bounds: tuple[float, float],
) -> onnx.GraphProto:
    """The best of the shortlist, and whether they are the best of all, for each user."""
    (count, width), (left, longest) = shape, bounds
    # A user's numbers are rounded to 127 steps up to the largest of them, which is wrong by half a step at most.
    of_length = left + ROUNDING * longest
    of_largest = (left + longest) * np.sqrt(width) / 254
    node = helper.make_node
    rows = ["short_rows", "short_scale", "short_zero", "", bias]
    sizes: dict[str, Any] = {
        "K": width,
        "N": count,
        "bits": 8,
        "block_size": _block(width),
        "accuracy_level": 4,
    }
    nodes = [
        node("MatMulNBits", [vector, *rows], ["about"], domain=MICROSOFT, **sizes),
        node("ScatterElements", ["about", *excluded], ["about_all"], axis=1),
        _constant("shortlist", np.array([min(SHORTLIST, count)])),
        node("TopK", ["about_all", "shortlist"], ["about_score", "item"], axis=1),
        node("Gather", [table, "item"], ["row"]),
        _constant("axis_2", np.array([2])),
        node("Unsqueeze", [vector, "axis_2"], ["column"]),
        node("MatMul", ["row", "column"], ["products"]),
        node("Squeeze", ["products", "axis_2"], ["product"]),
        node("Gather", [bias, "item"], ["item_bias"]),
        node("Add", ["product", "item_bias"], ["item_score"]),
        node("IsInf", ["about_score"], ["gone"]),
        _constant("nowhere", np.array(-np.inf, np.float32)),
        node("Where", ["gone", "nowhere", "item_score"], ["listed_score"]),
        node("TopK", ["listed_score", TOP_K.name], ["score", "place"], axis=1),
        node("GatherElements", ["item", "place"], ["index"], axis=1),
        _constant("last", np.array([-1])),
        node("Gather", ["score", "last"], ["last_score"], axis=1),
        node("Gather", ["about_score", "last"], ["last_about"], axis=1),
        _constant("axis_1", np.array([1])),
        node("ReduceL2", [vector, "axis_1"], ["length"]),
        node("Abs", [vector], ["sizes"]),
        node("ReduceMax", ["sizes", "axis_1"], ["largest"]),
        _constant("of_length", np.array(of_length, np.float32)),
        _constant("of_largest", np.array(of_largest, np.float32)),
        node("Mul", ["length", "of_length"], ["wrong_by_length"]),
        node("Mul", ["largest", "of_largest"], ["wrong_by_largest"]),
        node("Add", ["wrong_by_length", "wrong_by_largest"], ["wrong"]),
        node("Add", ["last_about", "wrong"], ["most_beside"]),
        node("GreaterOrEqual", ["last_score", "most_beside"], ["sure"]),
        node("Cast", ["sure"], ["sure_number"], to=onnx.TensorProto.INT32),
        node("ReduceMin", ["sure_number"], ["certain_number"], keepdims=0),
        node("Cast", ["certain_number"], ["certain"], to=onnx.TensorProto.BOOL),
    ]
    return _branch("found", nodes, ("score", "index", "certain"))


def _nothing() -> onnx.GraphProto:
    """For more users than few: a list of one place for nobody."""
    nodes = [
        _constant("score", np.zeros((1, 1), np.float32)),
        _constant("index", np.zeros((1, 1), np.int64)),
        _constant("certain", np.array(False)),
    ]
    return _branch("nothing", nodes, ("score", "index", "certain"))


def _as_they_are() -> onnx.GraphProto:
    nodes = [helper.make_node("Identity", [name], [f"{name}_kept"]) for name in SHORT[:2]]
    return _branch("certain", nodes, tuple(f"{name}_kept" for name in SHORT[:2]))


def _whole(nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    """The nodes, the last of which lists, with names of their own."""
    made = {name for node in nodes for name in node.output}
    inner = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for names in (copy.input, copy.output):
            names[:] = [f"{name}_whole" if name in made else name for name in names]
        inner.append(copy)
    return _branch("whole", inner, tuple(inner[-1].output))


def _branch(name: str, nodes: list[onnx.NodeProto], outputs: tuple[str, ...]) -> onnx.GraphProto:
    """score fp32 and index int64 [users, any], and where it is one of three outputs, certain bool []."""
    values = [
        helper.make_tensor_value_info(outputs[0], onnx.TensorProto.FLOAT, [None, None]),
        helper.make_tensor_value_info(outputs[1], onnx.TensorProto.INT64, [None, None]),
    ]
    if len(outputs) > len(values):
        values.append(helper.make_tensor_value_info(outputs[2], onnx.TensorProto.BOOL, []))
    return helper.make_graph(nodes, f"short_{name}", [], values)


def _if(
    condition: str, outputs: tuple[str, ...], then: onnx.GraphProto, otherwise: onnx.GraphProto
) -> onnx.NodeProto:
    return helper.make_node(
        "If", [condition], outputs, name=condition, then_branch=then, else_branch=otherwise
    )


def _constant(name: str, value: NDArray[np.generic]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))
