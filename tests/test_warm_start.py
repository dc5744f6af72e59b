"""A warm start begins where an older checkpoint of its lineage ended."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_learnt import FOOTFALL, checkpoint_of, config, prepared

from footfall.errors import InputError
from footfall_data.dataset import Dataset
from footfall_models.model import SequenceModel
from footfall_training.checkpoint import Checkpoint
from footfall_training.options import TrainOptions
from footfall_training.train import Trainer, train

OPTIONS = TrainOptions(epochs=6, batch_size=8, learning_rate=1e-2, warmup_steps=5)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(tmp_path_factory.mktemp("old"), "old", 9)


@pytest.fixture(scope="module")
def new(old: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(tmp_path_factory.mktemp("new"), "new", 20, extend=old.folder)


@pytest.fixture(scope="module")
def trained(old: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    out = tmp_path_factory.mktemp("trained") / "c"
    train(old, out, config(old), OPTIONS)
    return Checkpoint.open(out)


def test_before_its_first_epoch_it_has_the_quality_of_its_source(
    old: Dataset, trained: Checkpoint, tmp_path: Path
) -> None:
    metrics = trained.metrics["validation"]
    assert metrics["ndcg@10"] > 0.5
    assert Trainer(old, tmp_path, config(old), OPTIONS, trained)._metrics() == pytest.approx(
        metrics, abs=1e-6
    )
    assert Trainer(old, tmp_path, config(old), OPTIONS)._metrics()["ndcg@10"] < metrics["ndcg@10"] - 0.1


def test_known_items_and_actions_keep_their_rows_and_new_ones_begin_afresh(
    old: Dataset, new: Dataset, trained: Checkpoint, tmp_path: Path
) -> None:
    warm = Trainer(new, tmp_path, config(new), OPTIONS, trained).model
    torch.manual_seed(OPTIONS.seed)
    fresh, source = SequenceModel(config(new)), trained.load_model()
    items, actions = len(old.items) + 1, len(old.actions) + 1
    assert (len(new.items) + 1, len(new.actions) + 1) == (items + 3, actions + 1)
    torch.testing.assert_close(warm.item_table()[:items], source.item_table())
    torch.testing.assert_close(
        warm.item_table()[items:], torch.nn.functional.normalize(fresh.item_table()[items:], dim=1)
    )
    assert torch.equal(warm.action_embedding.weight[:actions], source.action_embedding.weight)
    assert torch.equal(warm.action_embedding.weight[actions:], fresh.action_embedding.weight[actions:])
    heads: list[Any] = [model.head("action") for model in (warm, source, fresh)]
    assert torch.equal(heads[0].linear.weight[:-1], heads[1].linear.weight)
    assert torch.equal(heads[0].linear.weight[-1], heads[2].linear.weight[-1])
    assert torch.equal(warm.final_norm.weight, source.final_norm.weight)


def test_it_trains_on_an_extended_data_set_and_hands_on_what_was_learnt(
    old: Dataset, new: Dataset, trained: Checkpoint, tmp_path: Path
) -> None:
    train(new, tmp_path / "c", config(new), replace(OPTIONS, epochs=1), source=trained)
    warm = Checkpoint.open(tmp_path / "c")
    assert len(warm.items) == len(old.items) + 3
    assert warm.learnt.learnt_until > trained.learnt.learnt_until
    small = prepared(tmp_path, "small", 9, extend=new.folder)  # the old events, with the new vocabularies
    train(small, tmp_path / "d", config(small), replace(OPTIONS, epochs=1), source=warm)
    assert Checkpoint.open(tmp_path / "d").learnt.learnt_until == warm.learnt.learnt_until


def test_the_command_never_ends_worse_than_its_source(
    old: Dataset, trained: Checkpoint, tmp_path: Path
) -> None:
    options = (
        "--width",
        "16",
        "--max-length",
        "10",
        "--epochs",
        "1",
        "--learning-rate",
        "1",
        "--warmup-steps",
        "0",
    )
    run = subprocess.run(
        [
            FOOTFALL,
            "train",
            old.folder,
            "--from",
            trained.folder,
            "--out",
            tmp_path / "c",
            "--json",
            *options,
        ],
        stdout=subprocess.PIPE,
        check=True,
    )
    made = json.loads(run.stdout)
    assert made["validation"]["ndcg@10"] >= trained.metrics["validation"]["ndcg@10"] - 1e-6
    assert made["best_epoch"] in (0, 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": 32}, "has width 16, not 32"),
        ({"num_layers": 3}, "has num_layers 2, not 3"),
        ({"max_length": 12}, "has max_length 10, not 12"),
        ({"encoder": "hstu"}, "has encoder softmax, not hstu"),
    ],
)
def test_an_option_that_differs_from_the_sources_is_named(
    change: dict[str, Any], sentence: str, old: Dataset, trained: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=sentence):
        Trainer(old, tmp_path, replace(config(old), **change), OPTIONS, trained)


def test_dropout_may_differ(old: Dataset, trained: Checkpoint, tmp_path: Path) -> None:
    Trainer(old, tmp_path, replace(config(old), dropout=0.3), OPTIONS, trained)


def test_a_source_of_another_lineage_is_refused(trained: Checkpoint, tmp_path: Path) -> None:
    other = prepared(tmp_path, "other", 9)
    with pytest.raises(
        InputError, match=r"is of another lineage than .*; prepare the data set with --extend"
    ):
        Trainer(other, tmp_path, config(other), OPTIONS, trained)


def test_a_source_with_newer_items_than_the_data_set_is_refused(
    old: Dataset, new: Dataset, tmp_path: Path
) -> None:
    newer = checkpoint_of(new, tmp_path / "c")
    with pytest.raises(InputError, match=r"the 15 items of .* are not the first items of .*, which has 12"):
        Trainer(old, tmp_path, config(old), OPTIONS, newer)


def test_a_source_that_knows_what_the_split_holds_out_is_refused(
    old: Dataset, new: Dataset, trained: Checkpoint, tmp_path: Path
) -> None:
    by_time = replace(OPTIONS, split="time")
    with pytest.raises(
        InputError, match=r"fitted to events of the leave_one_out split .* train with --split leave"
    ):
        Trainer(new, tmp_path, config(new), by_time, checkpoint_of(new, tmp_path / "c"))
    Trainer(new, tmp_path, config(new), by_time, trained)  # holds out later events only


def test_a_run_resumes_from_the_source_it_began_with_alone(
    old: Dataset, trained: Checkpoint, tmp_path: Path
) -> None:
    Trainer(old, tmp_path, config(old), OPTIONS, trained).save()
    with pytest.raises(InputError, match="was started with from"):
        Trainer(old, tmp_path, config(old), OPTIONS)
