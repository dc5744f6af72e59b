"""What a checkpoint has learnt from, and so what it may be asked about and go on with."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from footfall.errors import InputError
from footfall.history import Asked
from footfall_data.dataset import Dataset, SplitName
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel
from footfall_training.checkpoint import Checkpoint, save_checkpoint
from footfall_training.evaluation.evaluation import evaluate
from footfall_training.evaluation.options import EvaluateOptions
from footfall_training.evaluation.ranking import Targets, rank_targets
from footfall_training.evaluation.scorer import ModelScorer
from footfall_training.options import TrainOptions
from footfall_training.train import Trainer, fill_priors, train

FOOTFALL = Path(sys.executable).with_name("footfall")
CPU = torch.device("cpu")
BEGIN_S = 1_700_000_000
NUM_USERS = 40


def write_log(path: Path, steps: int) -> Path:
    """Users walk round a ring of 12 items; from step 9 on it has 15, and the last is put into the cart.

    u0 begins with a reload that takes 2 s, which cleaning drops by default.
    """
    rows = ["user_id,item_id,action,timestamp", f"u0,i0,view,{BEGIN_S - 2}"]
    for user in range(NUM_USERS):
        for step in range(steps):
            item = (user + step) % (12 if step < 9 else 15)
            action = "cart" if item == 14 else "view"
            rows.append(f"u{user},i{item},{action},{BEGIN_S + 60 * step + user}")
    path.write_text("\n".join(rows) + "\n")
    return path


def prepared(folder: Path, name: str, steps: int, **options: object) -> Dataset:
    prepare([write_log(folder / f"{name}.csv", steps)], folder / name, PrepareOptions(**options))  # type: ignore[arg-type]
    return Dataset.open(folder / name)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(tmp_path_factory.mktemp("old"), "old", 9)


@pytest.fixture(scope="module")
def new(old: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same log half a day later, with three more items and one more action."""
    return prepared(tmp_path_factory.mktemp("new"), "new", 20, extend=old.folder)


def config(data: Dataset) -> ModelConfig:
    return ModelConfig(len(data.items), len(data.actions), width=16, max_length=10, dropout=0.0)


def checkpoint_of(data: Dataset, out: Path, split: SplitName = "leave_one_out") -> Checkpoint:
    """Of random weights: what it has learnt from goes by its options."""
    torch.manual_seed(0)
    model = SequenceModel(config(data))
    fill_priors(model, data, split)
    asked = Targets.of(data, split, "validation", 5)
    samples = Asked(asked.histories, asked.now)
    save_checkpoint(
        out, model, data, samples, {"validation": {"ndcg@10": 0.0}}, TrainOptions(split=split, seed=7)
    )
    return Checkpoint.open(out)


def test_a_checkpoint_tells_how_it_was_trained_and_on_what(old: Dataset, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(old, tmp_path / "c", "time")
    assert checkpoint.options == TrainOptions(split="time", seed=7)
    assert checkpoint.manifest["options"]["objective"] == "next_item"
    assert (checkpoint.config.encoder, checkpoint.config.heads) == ("softmax", ("action",))
    learnt = checkpoint.learnt
    assert (learnt.split, learnt.fingerprint, learnt.cleaning) == ("time", old.fingerprint, old.cleaning)
    assert learnt.cleaning == {"repeat_ms": 5000, "robot_events_per_minute": 0, "k_core": 2} | old.cleaning
    time, split = old.histories.time, old.split("time")
    first = old.histories.offsets[:-1]
    assert learnt.fitted_until == max(
        time[begin + end - 1] for begin, end in zip(first, split.train_end, strict=False)
    )
    asked = split.test_at > 0
    assert learnt.fitted_until < learnt.learnt_until < time[(first + split.test_at)[asked]].min()


def test_by_leave_one_out_all_but_the_last_events_are_learnt_from(old: Dataset, tmp_path: Path) -> None:
    learnt = checkpoint_of(old, tmp_path / "c").learnt
    last = BEGIN_S + NUM_USERS - 1
    assert (learnt.fitted_until, learnt.learnt_until) == ((last + 60 * 6) * 1000, (last + 60 * 7) * 1000)


@pytest.mark.parametrize(("trained", "asked"), [("leave_one_out", "time"), ("time", "leave_one_out")])
def test_a_split_that_asks_about_learnt_events_is_refused(
    trained: SplitName, asked: SplitName, old: Dataset, tmp_path: Path
) -> None:
    checkpoint_of(old, tmp_path / "c", trained)
    with pytest.raises(
        InputError, match=f"was trained on the {trained} split.*evaluate with --split {trained}"
    ):
        evaluate(tmp_path / "c", old, EvaluateOptions(asked))
    assert evaluate(tmp_path / "c", old)["split"] == trained


def test_another_cleaning_of_the_same_log_is_refused(old: Dataset, tmp_path: Path) -> None:
    checkpoint_of(old, tmp_path / "c")
    other = prepared(tmp_path, "other", 9, repeat_seconds=-1.0)
    assert list(other.items) == list(old.items)
    with pytest.raises(InputError, match=r"cleaned with repeat_ms 5000, .*other was prepared with -1"):
        evaluate(tmp_path / "c", other, EvaluateOptions("leave_one_out"))


def test_the_same_log_prepared_again_is_the_same_data_set(old: Dataset, tmp_path: Path) -> None:
    checkpoint_of(old, tmp_path / "c")
    again = prepared(tmp_path, "again", 9)
    assert again.lineage != old.lineage
    assert evaluate(tmp_path / "c", again)["users"] == NUM_USERS


def test_an_older_checkpoint_is_asked_about_later_events_only(
    old: Dataset, new: Dataset, tmp_path: Path
) -> None:
    checkpoint_of(old, tmp_path / "c")
    with pytest.raises(InputError, match=r"trained on other events than .* begin at"):
        evaluate(tmp_path / "c", prepared(tmp_path, "part", 8, extend=old.folder), EvaluateOptions("time"))
    found = evaluate(tmp_path / "c", new, EvaluateOptions("time"))
    assert found["users"] == NUM_USERS
    assert found["actions"]["cart"]["share"] > 0
    assert found["actions"]["cart"]["auc"] == 0.5  # it does not know carts: probability 0 throughout


def test_items_newer_than_the_model_are_neither_read_nor_found(
    old: Dataset, new: Dataset, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(old, tmp_path / "c")
    scorer = ModelScorer(checkpoint.load_model(), CPU, "reference")
    targets = Targets.of(new, "time", "test")
    ranks = rank_targets(scorer, targets, len(new.items), keep_seen=True)
    is_new = targets.next_item > len(old.items)
    assert is_new.any()
    assert (ranks[is_new] == len(new.items) + 1).all()
    assert (ranks[~is_new] <= len(old.items)).all()


def test_a_history_of_new_items_alone_is_answered_as_an_empty_one(old: Dataset, tmp_path: Path) -> None:
    model = checkpoint_of(old, tmp_path / "c").load_model()
    scorer = ModelScorer(model, CPU, "reference")
    histories = replace(old.histories, item=np.full_like(old.histories.item, len(old.items) + 1))
    now = np.zeros(histories.num_users, np.int64)
    np.testing.assert_array_equal(scorer.scores(histories, now)[3, 1:], model.item_popularity[1:])
    np.testing.assert_allclose(
        scorer.action_probability(histories, now)[3], model.head("action").prior.numpy()
    )


def test_a_run_resumes_on_the_events_it_began_with_alone(old: Dataset, tmp_path: Path) -> None:
    (tmp_path / "c.training").mkdir()
    Trainer(old, tmp_path / "c.training", config(old), TrainOptions()).save()
    other = prepared(tmp_path, "other", 9, repeat_seconds=-1.0)
    with pytest.raises(InputError, match="was started with dataset"):
        train(other, tmp_path / "c", config(other), TrainOptions(), resume=True)


def test_a_checkpoint_of_an_older_format_is_refused(old: Dataset, tmp_path: Path) -> None:
    checkpoint_of(old, tmp_path / "c")
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    (tmp_path / "c" / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    with pytest.raises(
        InputError, match="c is a checkpoint of format 1, this Footfall reads 2: make it again"
    ):
        Checkpoint.open(tmp_path / "c")


def test_a_model_that_is_not_finite_becomes_no_checkpoint(old: Dataset, tmp_path: Path) -> None:
    model = SequenceModel(config(old))
    model.item_popularity[2] = torch.nan
    asked = Targets.of(old, "leave_one_out", "validation", 5)
    samples = Asked(asked.histories, asked.now)
    with pytest.raises(InputError, match="c is not written: item_popularity of its model is not finite"):
        save_checkpoint(tmp_path / "c", model, old, samples, {}, TrainOptions())
    assert not list(tmp_path.iterdir())
