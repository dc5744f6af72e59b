"""Replay: every test history, asked of the running server, gives the metrics that `evaluate` prints."""

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import MAX_LENGTH
from numpy.typing import NDArray

from footfall.metrics import probability_metrics, ranking_metrics
from footfall_client import Client, Event, Recommendation
from footfall_data.dataset import Dataset
from footfall_engines.repository import Repository
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_models.config import ModelConfig
from footfall_serving.server import running_server
from footfall_training.evaluation.evaluation import evaluate
from footfall_training.evaluation.ranking import Targets
from footfall_training.options import TrainOptions
from footfall_training.train import train


@pytest.fixture(scope="module")
def checkpoint(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained, since random weights claim probabilities that fp32 cannot tell from 1, and log loss can."""
    out = tmp_path_factory.mktemp("trained") / "checkpoint"
    config = ModelConfig(len(dataset.items), len(dataset.actions), width=16, max_length=MAX_LENGTH)
    train(dataset, out, config, TrainOptions(epochs=1, warmup_steps=10))
    return out


@pytest.fixture(scope="module")
def answers(
    checkpoint: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> list[Recommendation]:
    return served_answers(checkpoint, dataset, tmp_path_factory.mktemp("replay"))


def served_answers(checkpoint: Path, dataset: Dataset, folder: Path) -> list[Recommendation]:
    """The whole catalogue ranked for every user of the test part, by a server on a repository in `folder`."""
    repository = Repository(folder)
    export(checkpoint, repository.folder, ExportOptions(max_top_k=len(dataset.items)))
    version = repository.version(1)
    repository.write_configs([version], version)
    with running_server(repository.folder) as state, Client(state.grpc_url) as client:
        return [
            client.recommend(history, k=len(dataset.items), now=now)
            for history, now in asked_histories(dataset)
        ]


def asked_histories(dataset: Dataset) -> Iterator[tuple[list[Event], int]]:
    """Each with the time of the event that is to be predicted."""
    items, actions = ([id_.decode() for id_ in ids] for ids in (dataset.items, dataset.actions))
    targets = Targets.of(dataset, "leave_one_out", "test")
    histories = targets.histories
    columns = (histories.item.tolist(), histories.action.tolist(), histories.time.tolist())
    bounds = pairwise(histories.offsets.tolist())
    for (start, end), now in zip(bounds, targets.now.tolist(), strict=True):
        rows = zip(*(column[start:end] for column in columns), strict=True)
        yield [Event(items[item - 1], actions[action - 1], time) for item, action, time in rows], now


def ranks(answers: list[Recommendation], dataset: Dataset) -> NDArray[np.int64]:
    """Of each user's target in the answer."""
    targets = Targets.of(dataset, "leave_one_out", "test")
    ids = [id_.decode() for id_ in dataset.items]
    found = []
    for answer, target in zip(answers, targets.next_item, strict=True):
        listed = [item.id for item in answer.items]
        wanted = ids[target - 1]
        found.append(listed.index(wanted) + 1 if wanted in listed else len(ids) + 1)
    return np.array(found)


def test_replayed_histories_have_the_ranking_metrics_of_evaluate(
    answers: list[Recommendation], checkpoint: Path, dataset: Dataset
) -> None:
    expected = evaluate(checkpoint, dataset)["ranking"]["model"]
    assert ranking_metrics(ranks(answers, dataset)) == pytest.approx(expected, abs=1e-6)


def test_replayed_histories_have_the_action_metrics_of_evaluate(
    answers: list[Recommendation], checkpoint: Path, dataset: Dataset
) -> None:
    happened = Targets.of(dataset, "leave_one_out", "test").next_action
    expected = evaluate(checkpoint, dataset)["actions"]
    for index, name in enumerate(dataset.actions, start=1):
        probability = np.array([answer.action_probability[name.decode()] for answer in answers])
        metrics = probability_metrics(probability, happened == index)
        known = {metric: value for metric, value in metrics.items() if not math.isnan(value)}
        # A pair of users whose probabilities are nearer than the engines' roundings may trade places in it.
        assert known.pop("auc") == pytest.approx(expected[name.decode()]["auc"], abs=1e-4)
        assert known == pytest.approx({metric: expected[name.decode()][metric] for metric in known}, abs=1e-6)
