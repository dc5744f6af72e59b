"""The shortlist of a large catalogue: the lists of the whole one, which is scored where they are not certain."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import MAX_LENGTH
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from footfall.contract import ENGINE_INPUTS, TOP_K
from footfall_engines.repository import Repository
from footfall_export import shortlist
from footfall_export.shortlist import FEW, put_shortlist

OUTPUTS = ["item_index", "item_score"]
EVENTS = 5


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def of_name(nodes: Any, name: str, branch: str) -> onnx.GraphProto:
    (found,) = (node for node in nodes if node.name == name)
    graph: onnx.GraphProto = next(part.g for part in found.attribute if part.name == branch)
    return graph


@pytest.fixture(scope="module")
def plain(tiny_repository: Path) -> onnx.ModelProto:
    return onnx.load(Repository(tiny_repository).version_folder(1) / "model.onnx")


@pytest.fixture
def listed(plain: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> onnx.ModelProto:
    """With a shortlist of 100 items of the 300."""
    monkeypatch.setattr(shortlist, "SHORTLIST", 100)
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    branch = of_name(model.graph.node, "branch_catalogue", "then_branch")
    name = branch.node[0].input[1]
    (table,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    put_shortlist(model, branch, table)
    onnx.checker.check_model(model)
    return model


def batches(num_items: int) -> Iterator[dict[str, NDArray[np.int32]]]:
    """Of few users and of more, the last of whom has no history."""
    random = np.random.default_rng(0)
    for users in (1, 1, 1, 2, 3, FEW, FEW + 1):
        batch = {}
        for tensor in ENGINE_INPUTS:
            length = EVENTS if tensor.dims == (-1,) else 1
            batch[tensor.name] = random.integers(1, 4, (users, length)).astype(np.int32)
        for name in ("history_item", "excluded_index"):
            batch[name] = random.integers(1, num_items, (users, EVENTS)).astype(np.int32)
        batch["history_length"][:] = min(EVENTS, MAX_LENGTH)
        batch["history_length"][1:][-1:] = 0
        batch["candidate_index"][:] = 0
        yield batch


def test_lists_are_those_of_the_whole_catalogue_by_either_way(
    plain: onnx.ModelProto, listed: onnx.ModelProto, ids: list[str]
) -> None:
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(listed)
    catalogue = of_name(spoilt.graph.node, "branch_catalogue", "then_branch")
    whole = of_name(catalogue.node, "short_certain", "else_branch")
    whole.node[0].attribute.extend([helper.make_attribute("alpha", 0.0)])
    del whole.node[0].attribute[:-1]
    whole.node[0].attribute.extend([helper.make_attribute("transB", 1)])
    before, now, without = session(plain), session(listed), session(spoilt)
    certain = []
    for batch in batches(len(ids)):
        for top_k in (1, 5, 20, 100):
            inputs = batch | {TOP_K.name: np.array([top_k])}
            (index, score), (index_now, score_now) = (one.run(OUTPUTS, inputs) for one in (before, now))
            np.testing.assert_allclose(score_now, score, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(index_now, index)
            certain.append(
                (len(index), top_k, np.allclose(without.run(OUTPUTS, inputs)[1], score, atol=1e-5))
            )
    assert all(way for users, top_k, way in certain if users <= 3 and top_k <= 5), certain
    assert not any(way for users, top_k, way in certain if users > FEW or top_k == 100), certain


@pytest.mark.parametrize("width", [16, 48, 64, 100])
def test_whole_numbers_are_wrong_by_no_more_than_is_reckoned_with(width: int) -> None:
    """Where all numbers are as large as they can be, too: some processors have 16 bits for two products."""
    random = np.random.default_rng(0)
    signs = np.where(random.random((64, width)) < 0.5, -1, 1)
    rows = np.concatenate(
        [
            random.normal(size=(500, width)),
            random.normal(size=(500, width)) * random.lognormal(sigma=2, size=(500, 1)),
            *(scale * signs for scale in (1e-6, 1.0, 1e6)),
            np.eye(width),
            np.zeros((1, width)),
        ]
    ).astype(np.float32)
    users = np.concatenate([rows[::7], np.ones((1, width)), -np.ones((1, width))]).astype(np.float32)
    constants, bounds = shortlist._in_whole_numbers(rows)
    bias = np.zeros(len(rows), np.float32)
    graph = shortlist._found("vector", "table", "bias", ["none", "nothing"], rows.shape, bounds)
    values = [helper.make_tensor_value_info("vector", onnx.TensorProto.FLOAT, ["users", width])]
    outputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("about", "wrong")
    ]
    wanted = {"about", "wrong", "length", "sizes", "largest", "axis_1", "of_length", "of_largest"}
    wanted |= {"wrong_by_length", "wrong_by_largest"}
    nodes = [node for node in graph.node if node.output[0] in wanted]
    initial = {"bias": bias} | {f"short_{name}": value for name, value in constants.items()}
    tensors = [numpy_helper.from_array(value, name) for name, value in initial.items()]
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid(shortlist.MICROSOFT, 1)]
    model = helper.make_model(
        helper.make_graph(nodes, "about", values, outputs, tensors), opset_imports=opsets, ir_version=10
    )
    reckons = session(model)
    for user in users:
        about, wrong = reckons.run(["about", "wrong"], {"vector": user[None]})
        exact = rows.astype(np.float64) @ user
        assert np.abs(about[0] - exact).max() <= wrong[0, 0]
