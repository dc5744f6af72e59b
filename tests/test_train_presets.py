"""Presets of `train`: a family's sizes and options, by name, from a file that says whose they are."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest
from conftest import MAX_LENGTH
from test_replay import ranks, served_answers

from footfall.errors import InputError
from footfall.metrics import ranking_metrics
from footfall_data.dataset import Dataset
from footfall_models.config import ModelConfig
from footfall_models.registry import ENCODERS
from footfall_training.checkpoint import Checkpoint
from footfall_training.evaluation.evaluation import evaluate
from footfall_training.options import TrainOptions
from footfall_training.preset import Preset, PresetName
from footfall_training.train import train

FOOTFALL = Path(sys.executable).with_name("footfall")
SMALL = ("--width", "16", "--epochs", "1", "--max-length", "8", "--validation-users", "50")


@pytest.mark.parametrize("name", get_args(PresetName))
def test_a_preset_names_its_paper_and_is_of_this_footfall(name: PresetName) -> None:
    preset = Preset.named(name)
    config = ModelConfig(num_items=5, num_actions=1, **preset.sizes)
    assert TrainOptions(**preset.training).epochs
    assert config.encoder == ("softmax" if name == "sasrec" else name)
    comment = files("footfall_training.presets").joinpath(f"{name}.toml").read_text().split("\n\n")[0]
    assert "arXiv " in comment


def test_every_family_has_a_preset() -> None:
    assert {Preset.named(name).sizes["encoder"] for name in get_args(PresetName)} == set(ENCODERS)


def test_train_takes_a_preset_and_what_is_given_beside_it_wins(dataset: Dataset, tmp_path: Path) -> None:
    command = [
        FOOTFALL,
        "train",
        dataset.folder,
        "--out",
        tmp_path / "c",
        "--preset",
        "bsarec",
        *SMALL,
        "--json",
    ]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    checkpoint = Checkpoint.open(Path(json.loads(run.stdout)["checkpoint"]))
    config, options = checkpoint.config, checkpoint.options
    assert (config.encoder, config.positions, config.feed_forward, config.input_norm) == (
        "bsarec",
        "last",
        4,
        True,
    )
    assert (options.objective, options.batch_size, options.weight_decay) == ("prefixes", 256, 0.0)
    assert (config.width, config.max_length, options.epochs) == (16, 8, 1)
    assert options.learning_rate == Preset.named("bsarec").training["learning_rate"]


def test_an_unknown_preset_is_named(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown preset 'nonsense'; there are sasrec, hstu, gru4rec"):
        Preset.named("nonsense")  # type: ignore[arg-type]
    command = [FOOTFALL, "train", dataset.folder, "--out", tmp_path / "c", "--preset", "nonsense"]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "nonsense" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bsarec", "gru4rec", "nextitnet"])
def test_a_server_gives_the_metrics_of_evaluate_whatever_the_family(
    name: PresetName, dataset: Dataset, tmp_path: Path
) -> None:
    preset = Preset.named(name)
    sizes = preset.sizes | {"width": 16, "max_length": MAX_LENGTH}
    config = ModelConfig(len(dataset.items), len(dataset.actions), **sizes)
    train(
        dataset, tmp_path / "c", config, TrainOptions(**preset.training | {"epochs": 1, "warmup_steps": 10})
    )
    answers = served_answers(tmp_path / "c", dataset, tmp_path / "repository")
    expected = evaluate(tmp_path / "c", dataset)["ranking"]["model"]
    assert ranking_metrics(ranks(answers, dataset)) == pytest.approx(expected, abs=1e-6)
