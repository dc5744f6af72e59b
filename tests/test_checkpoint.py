"""Checkpoints: what was saved is what is opened, and nothing half or foreign is."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from footfall.errors import InputError
from footfall.history import Asked
from footfall_data.dataset import Dataset
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel
from footfall_models.weights import CONFIG, WEIGHTS, load_config, load_weights
from footfall_training.checkpoint import Checkpoint, save_checkpoint
from footfall_training.evaluation.ranking import Targets
from footfall_training.options import TrainOptions

OPTIONS = TrainOptions(split="leave_one_out", seed=7, learning_rate=0.01)


def save(dataset: Dataset, out: Path) -> SequenceModel:
    torch.manual_seed(3)
    model = SequenceModel(ModelConfig(len(dataset.items), len(dataset.actions), width=8, max_length=6))
    model.get_buffer("heads.action.scale").fill_(1.5)
    asked = Targets.of(dataset, "leave_one_out", "validation", 5)
    samples = Asked(asked.histories, asked.now)
    save_checkpoint(out, model, dataset, samples, {"validation": {"ndcg@10": 0.25}}, OPTIONS)
    return model


def test_a_checkpoint_opens_as_it_was_saved(dataset: Dataset, tmp_path: Path) -> None:
    model = save(dataset, tmp_path / "c")
    checkpoint = Checkpoint.open(tmp_path / "c")
    loaded = checkpoint.load_model()
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert checkpoint.config == model.config
    assert list(checkpoint.items) == list(dataset.items)
    assert list(checkpoint.actions) == list(dataset.actions)
    assert checkpoint.rules == dataset.rules
    assert checkpoint.lineage == dataset.lineage
    assert checkpoint.metrics == {"validation": {"ndcg@10": 0.25}}
    expected = Targets.of(dataset, "leave_one_out", "validation", 5)
    for name, array in vars(expected.histories).items():
        np.testing.assert_array_equal(getattr(checkpoint.samples.histories, name), array)
    np.testing.assert_array_equal(checkpoint.samples.now, expected.now)


def test_a_checkpoint_that_misses_a_file_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    save(dataset, tmp_path / "c")
    (tmp_path / "c" / WEIGHTS).unlink()
    with pytest.raises(InputError, match=rf"{WEIGHTS} is missing"):
        Checkpoint.open(tmp_path / "c")


def test_a_data_set_is_not_taken_for_a_checkpoint(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="holds a dataset, expected a checkpoint"):
        Checkpoint.open(dataset.folder)


def test_an_unknown_key_of_the_config_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    save(dataset, tmp_path / "c")
    options = json.loads((tmp_path / "c" / CONFIG).read_text())
    (tmp_path / "c" / CONFIG).write_text(json.dumps({**options, "num_experts": 4}))
    with pytest.raises(InputError, match="num_experts"):
        load_config(tmp_path / "c")


def test_weights_of_before_items_could_be_left_out_of_lists_are_refused_in_a_sentence(
    dataset: Dataset, tmp_path: Path
) -> None:
    save(dataset, tmp_path / "c")
    weights = safetensors.torch.load_file(tmp_path / "c" / WEIGHTS)
    del weights["item_listed"]
    safetensors.torch.save_file(weights, tmp_path / "c" / WEIGHTS)
    with pytest.raises(
        InputError, match=r"weights\.safetensors is not of this Footfall: it lacks item_listed"
    ):
        load_weights(tmp_path / "c")


def test_a_checkpoint_is_not_written_over_another(dataset: Dataset, tmp_path: Path) -> None:
    save(dataset, tmp_path / "c")
    before = (tmp_path / "c" / WEIGHTS).read_bytes()
    with pytest.raises(InputError, match="exists already"):
        save(dataset, tmp_path / "c")
    assert (tmp_path / "c" / WEIGHTS).read_bytes() == before


def test_the_file_calls_the_action_heads_tensors_what_older_checkpoints_call_them(
    dataset: Dataset, tmp_path: Path
) -> None:
    save(dataset, tmp_path / "c")
    names = set(safetensors.torch.load_file(tmp_path / "c" / WEIGHTS))
    assert {"action_head.weight", "action_head.bias", "action_prior", "action_scale", "action_bias"} <= names
    assert not [name for name in names if name.startswith("heads.")]


def test_a_config_of_before_heads_had_names_has_the_action_head(dataset: Dataset, tmp_path: Path) -> None:
    model = save(dataset, tmp_path / "c")
    options = json.loads((tmp_path / "c" / CONFIG).read_text())
    assert options.pop("heads") == ["action"]
    (tmp_path / "c" / CONFIG).write_text(json.dumps(options))
    assert load_config(tmp_path / "c") == model.config
