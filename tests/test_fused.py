"""FusedReading: what ONNX Runtime runs of a softmax encoder says what the model itself says."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from footfall.contract import CANDIDATE_INDEX, ENGINE_INPUTS, EXCLUDED_INDEX, HISTORY_LENGTH, USER_VECTOR
from footfall_export.fused import fused_reading
from footfall_export.to_onnx import write_onnx
from footfall_models.config import ModelConfig, Positions
from footfall_models.graph import RankerGraph
from footfall_models.model import SequenceModel

LENGTHS = (4, 1, 0, 7)
LARGEST = {"history_item": 30, "history_action": 3, "history_gap": 39, "history_wait": 39}


def model(layers: int, heads: int, positions: Positions) -> SequenceModel:
    torch.manual_seed(0)
    config = ModelConfig(
        *(30, 3, 24, layers, heads, 8),
        positions=positions,
        input_norm=positions == "last",
        feed_forward=heads,
    )
    made = SequenceModel(config).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.wait_is_known[20:] = False
    return made


def inputs() -> dict[str, NDArray[np.int32]]:
    random, users = np.random.default_rng(0), len(LENGTHS)
    shapes = {HISTORY_LENGTH.name: 1, EXCLUDED_INDEX.name: 1, CANDIDATE_INDEX.name: 1}
    made = {
        tensor.name: random.integers(
            1, LARGEST.get(tensor.name, 0) + 2, (users, shapes.get(tensor.name, max(LENGTHS)))
        ).astype(np.int32)
        for tensor in ENGINE_INPUTS
    }
    made["history_wait"] -= 1
    for name in LARGEST:
        made[name] = np.minimum(made[name], LARGEST[name])
    made[HISTORY_LENGTH.name][:, 0] = LENGTHS
    made[CANDIDATE_INDEX.name][:] = 0
    return made


@pytest.mark.parametrize(("layers", "heads", "positions"), [(1, 2, "first"), (3, 3, "last")])
def test_a_fused_graph_says_what_the_model_says(
    layers: int, heads: int, positions: Positions, tmp_path: Path
) -> None:
    graph = RankerGraph(model(layers, heads, positions), 5)
    write_onnx(graph, tmp_path / "model.onnx", target="onnxruntime")
    given = inputs()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    names = ["item_score", "action_probability", USER_VECTOR.name]
    said = session.run(names, given)
    with torch.inference_mode():
        _, *expected = graph(*(torch.from_numpy(given[tensor.name]) for tensor in ENGINE_INPUTS))
    assert np.linalg.norm(said[2], axis=1).tolist() == pytest.approx([20.0, 20.0, 0.0, 20.0], rel=1e-4)
    for mine, theirs in zip(said, expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), atol=2e-4)


def test_another_encoder_and_an_appended_mask_are_read_as_they_are() -> None:
    hstu = SequenceModel(ModelConfig(30, 3, width=24, max_length=8, encoder="hstu"))
    masked = SequenceModel(ModelConfig(30, 3, width=24, max_length=8, appends="mask"))
    for made in (hstu, masked):
        assert fused_reading(RankerGraph(made, 5)) is None
