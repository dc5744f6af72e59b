"""Items that training never read are in nobody's list, from training to the engines."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from footfall.contract import DEFAULT_TOP_K
from footfall.history import model_input, newest
from footfall_client import Client
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_data.splits import training_histories
from footfall_engines.batch import Batch, IndexLists
from footfall_engines.engine import Engine, load_engine
from footfall_engines.repository import Repository
from footfall_engines.torch_engine import TorchEngine
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_models.config import ModelConfig
from footfall_serving.publish import publish
from footfall_serving.server import running_server
from footfall_training.checkpoint import Checkpoint
from footfall_training.evaluation.ranking import Targets, rank_targets
from footfall_training.evaluation.scorer import ModelScorer
from footfall_training.options import LossName, TrainOptions
from footfall_training.train import Trainer, train

NUM_USERS = 120
OLD = 30
OPTIONS = TrainOptions(
    epochs=2, batch_size=16, learning_rate=1e-2, warmup_steps=5, loss="sampled", num_negatives=8
)


def write_log(path: Path, days: int) -> Path:
    """Users walk round a ring of 30 items; what each does last on the second day is one of 60 new ones."""
    rows = ["user_id,item_id,timestamp"]
    for user in range(NUM_USERS):
        for step in range(8 * days):
            new = days == 2 and step == 15
            item = f"new{user % 60}" if new else f"i{(user + step) % OLD}"
            rows.append(f"u{user},{item},{1_700_000_000 + 7200 * step + user}")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("old")
    prepare([write_log(folder / "log.csv", 1)], folder / "d", PrepareOptions())
    return Dataset.open(folder / "d")


@pytest.fixture(scope="module")
def new(old: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two of three items of the catalogue have no event that training reads."""
    folder = tmp_path_factory.mktemp("new")
    prepare([write_log(folder / "log.csv", 2)], folder / "d", PrepareOptions(extend=old.folder))
    data = Dataset.open(folder / "d")
    read = np.unique(training_histories(data, "leave_one_out").item)
    assert (len(data.items), read.tolist()) == (OLD + 60, list(range(1, OLD + 1)))
    return data


def config(data: Dataset) -> ModelConfig:
    return ModelConfig(len(data.items), len(data.actions), width=16, max_length=10, dropout=0.0)


def trained(data: Dataset, out: Path, options: TrainOptions, source: Checkpoint | None = None) -> Checkpoint:
    train(data, out, config(data), options, source=source)
    return Checkpoint.open(out)


@pytest.fixture(scope="module")
def cold(new: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return trained(new, tmp_path_factory.mktemp("cold") / "c", OPTIONS)


@pytest.fixture(scope="module")
def warm(old: Dataset, new: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("warm")
    return trained(new, folder / "c", replace(OPTIONS, epochs=1), trained(old, folder / "old", OPTIONS))


def asked(data: Dataset) -> tuple[Batch, Targets]:
    """The test histories, and an empty one behind them, with nothing excluded."""
    targets = Targets.of(data, "leave_one_out", "test")
    inputs = model_input(newest(targets.histories, 10), targets.now, 10)
    inputs = replace(inputs, offsets=np.append(inputs.offsets, inputs.offsets[-1]))
    none = IndexLists.of([np.zeros(0, np.int32)] * (len(targets) + 1))
    return Batch(inputs, none, none), targets


def engines(checkpoint: Checkpoint, folder: Path) -> list[Engine]:
    export(checkpoint.folder, folder, ExportOptions())
    model = checkpoint.load_model()
    return [load_engine(Repository(folder).version(1)), TorchEngine(model, 100, "fp32", "cpu")]


def share_never_read(item: NDArray[np.int32]) -> float:
    """Of the first 20 of lists [users, any]."""
    top = item[:, :DEFAULT_TOP_K]
    return float((top > OLD).mean())


@pytest.mark.parametrize("start", ["cold", "warm"])
def test_of_the_top_20_of_a_sampled_training_none_was_never_read(
    start: str, new: Dataset, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    checkpoint: Checkpoint = request.getfixturevalue(start)
    batch, _ = asked(new)
    for engine in engines(checkpoint, tmp_path):
        listed = engine.score(batch)
        assert share_never_read(listed.item_index) == 0
        assert (np.isfinite(listed.item_score).sum(axis=1) == OLD).all()  # of the 100 asked for
        assert not listed.item_index[:, OLD:].any()
    every = checkpoint.load_model()
    every.item_listed[1:] = True
    unmasked = TorchEngine(every, 100, "fp32", "cpu").score(batch)
    assert share_never_read(unmasked.item_index[:-1]) > 0.3


@pytest.mark.parametrize("loss", get_args(LossName))
def test_what_training_never_read_is_not_listed_whatever_the_loss(
    loss: LossName, new: Dataset, tmp_path: Path
) -> None:
    listed = Trainer(new, tmp_path, config(new), replace(OPTIONS, loss=loss)).model.item_listed
    assert listed.nonzero().flatten().tolist() == list(range(1, OLD + 1))


def test_a_target_that_is_not_listed_ranks_last_and_engines_list_as_evaluation_ranks(
    new: Dataset, cold: Checkpoint, tmp_path: Path
) -> None:
    batch, targets = asked(new)
    scorer = ModelScorer(cold.load_model(), torch.device("cpu"), "reference")
    num_items = len(new.items)
    assert (rank_targets(scorer, targets, num_items) == num_items + 1).all()  # of new items
    validation = Targets.of(new, "leave_one_out", "validation")
    ranks = rank_targets(scorer, validation, num_items, keep_seen=True)
    assert ranks.max() <= OLD
    scores = scorer.scores(targets.histories, targets.now)
    for engine in engines(cold, tmp_path):
        found = engine.score(batch)
        best = np.take_along_axis(scores, found.item_index[:-1, :OLD], axis=1)
        np.testing.assert_allclose(found.item_score[:-1, :OLD], best, atol=1e-4)


def test_a_server_lists_nothing_that_was_never_read_not_even_as_a_candidate(
    cold: Checkpoint, tmp_path: Path
) -> None:
    export(cold.folder, tmp_path, ExportOptions())
    publish(Repository(tmp_path).version_folder(1))
    with running_server(tmp_path) as state, Client(state.grpc_url, timeout=60) as client:
        for history in ([], ["i3"], ["new7"]):
            answer = client.recommend(history, k=60, exclude_seen=False)
            assert {item.id for item in answer.items} == {f"i{number}" for number in range(OLD)}
        answer = client.recommend(["i3"], candidates=["new7", "i4", "unheard of"])
        assert [item.id for item in answer.items] == ["i4"]
        scores = client.score(["i3"], ["new7", "i4"])
        assert scores["new7"] is None and scores["i4"] is not None


def test_a_warm_start_lists_what_its_source_read_and_takes_no_other_row(
    new: Dataset, cold: Checkpoint, tmp_path: Path
) -> None:
    begun = Trainer(new, tmp_path, config(new), replace(OPTIONS, seed=5), cold).model
    rows, source = begun.item_table().detach(), cold.load_model().item_table().detach()
    torch.testing.assert_close(rows[: OLD + 1], source[: OLD + 1])
    assert not torch.isclose(rows[OLD + 1 :], source[OLD + 1 :]).all(dim=1).any()
    assert begun.item_listed.nonzero().flatten().tolist() == list(range(1, OLD + 1))


def test_what_only_the_source_has_read_stays_listed(old: Dataset, tmp_path: Path) -> None:
    """The second log holds 8 of the items of the first, and trains on 6."""
    log = tmp_path / "log.csv"
    rows = [f"u{user},i{step},{1_700_200_000 + 7200 * step}" for user in range(9) for step in range(8)]
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    prepare([log], tmp_path / "d", PrepareOptions(extend=old.folder))
    data = Dataset.open(tmp_path / "d")
    begun = trained(old, tmp_path / "old", OPTIONS)
    model = Trainer(data, tmp_path, config(data), OPTIONS, begun).model
    assert model.item_listed.nonzero().flatten().tolist() == list(range(1, OLD + 1))
    alone = Trainer(data, tmp_path, config(data), OPTIONS).model
    assert int(alone.item_listed.sum()) == 6
