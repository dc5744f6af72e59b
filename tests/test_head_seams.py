"""The seam of a head: a file, a line of the registry and a tensor of the contract, from training to the client."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from other_heads import ODD_PROBABILITY

from footfall import contract
from footfall.contract import HEADS, engine_outputs
from footfall_client._codec import decode
from footfall_data.dataset import Dataset
from footfall_data.splits import training_histories
from footfall_engines.engine import load_engine
from footfall_engines.repository import Repository
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_export.parity import parity_batches
from footfall_models import registry
from footfall_models.config import ModelConfig
from footfall_training.checkpoint import Checkpoint
from footfall_training.options import TrainOptions
from footfall_training.train import train


class Answer:
    """What the client reads of tritonclient's InferResult: None for an output that is not there."""

    def __init__(self, tensors: dict[str, Any]) -> None:
        self.as_numpy = tensors.get


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.HEADS, "odd", "other_heads:OddHead")
    monkeypatch.setitem(contract.HEADS, "odd", ODD_PROBABILITY)


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_a_head_goes_from_training_to_an_engines_answer(
    dataset: Dataset, tmp_path: Path, engine: str
) -> None:
    config = ModelConfig(
        len(dataset.items), len(dataset.actions), width=16, max_length=8, heads=("action", "odd")
    )
    train(dataset, tmp_path / "checkpoint", config, TrainOptions(epochs=1))
    checkpoint = Checkpoint.open(tmp_path / "checkpoint")
    assert checkpoint.config.heads == ("action", "odd")
    assert checkpoint.load_model().get_buffer("heads.odd.shift").item() == 0.25
    made = export(checkpoint.folder, tmp_path / "repository", ExportOptions(engine=engine))
    assert made["parity"]["differences"][ODD_PROBABILITY.name] < 1e-5
    version = Repository(tmp_path / "repository").version(1)
    scores = load_engine(version).score(parity_batches(checkpoint.samples, 8)[0])  # of an empty history
    assert list(scores.outputs) == [tensor.name for tensor in engine_outputs(version.heads)]
    expected = np.mean(training_histories(dataset, "leave_one_out").item % 2)
    np.testing.assert_allclose(scores.outputs[ODD_PROBABILITY.name], [[expected]], rtol=1e-6)


def test_the_client_tells_what_the_version_says_and_nothing_of_other_heads() -> None:
    def answer(*heads: str) -> Answer:
        texts = {"recommended_id": [b"a"], "action_name": [b"view", b"cart"]}
        said = {HEADS[head].name: np.array([[0.25, 0.75]], np.float32) for head in heads}
        numbers = {"score": [1.0], "user_vector": [0.5], "model_version": [3]}
        return Answer({**{name: np.array([v]) for name, v in (texts | numbers).items()}, **said})

    both, action, none = (decode(answer(*heads)) for heads in (("action", "odd"), ("action",), ()))
    assert list(both.predictions) == ["action_probability", "odd_probability"]
    assert both.action_probability == action.action_probability == {"view": 0.25, "cart": 0.75}
    assert list(action.predictions) == ["action_probability"]
    assert none.predictions == none.action_probability == {}
