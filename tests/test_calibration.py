"""Calibration: probabilities of the next action come to agree with how often it really follows."""

from pathlib import Path

import numpy as np
import pytest
import torch

from footfall.errors import InputError
from footfall.history import slices
from footfall.metrics import probability_metrics
from footfall_data.dataset import SPLIT_NAMES, Dataset, SplitName
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_data.splits import time_cuts
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel
from footfall_training.calibration import calibrate
from footfall_training.evaluation.ranking import Targets
from footfall_training.evaluation.scorer import ModelScorer
from footfall_training.moments import calibration_moments, random_moments

CPU = torch.device("cpu")


def overconfident(dataset: Dataset) -> SequenceModel:
    """A model whose action head knows nothing and is sure of it."""
    torch.manual_seed(0)
    model = SequenceModel(ModelConfig(len(dataset.items), len(dataset.actions), width=16, max_length=20))
    torch.nn.init.normal_(model.get_parameter("heads.action.linear.weight"), std=2.0)
    return model


@pytest.mark.parametrize("split", SPLIT_NAMES)
def test_probabilities_agree_with_random_moments_that_nothing_was_fitted_on(
    dataset: Dataset, split: SplitName
) -> None:
    model = overconfident(dataset)
    scorer = ModelScorer(model, CPU, "reference")
    asked = held_out_moments(dataset, split)
    before = scorer.action_probability(asked.histories, asked.now)
    weights = {name: tensor.clone() for name, tensor in model.named_parameters()}
    calibrate(model, calibration_moments(dataset, split, 10_000, seed=0), CPU, "reference")
    after = scorer.action_probability(asked.histories, asked.now)
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-6)  # fp32, as served
    for column in range(len(dataset.actions)):
        happened = asked.next_action == column + 1
        errors = [probability_metrics(side[:, column], happened)["ece"] for side in (before, after)]
        assert errors[1] < 0.03 < errors[0], (column, errors)
        assert after[:, column].mean() == pytest.approx(happened.mean(), abs=0.02)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.named_parameters())


def held_out_moments(dataset: Dataset, split: SplitName) -> Targets:
    """Random moments that `calibration_moments` did not draw; the model of this file was fitted on none."""
    if split == "time":
        return random_moments(dataset, "test", 3000, seed=1)
    histories, train_end = dataset.histories, dataset.split(split).train_end
    start = np.repeat(histories.offsets[:-1], train_end)
    event = start + np.arange(len(start)) - np.repeat(np.cumsum(train_end) - train_end, train_end)
    drawn = np.random.default_rng(1).choice(np.flatnonzero(event > start), 3000, replace=False)
    return Targets(
        slices(histories, start[drawn], event[drawn]),
        histories.time[event[drawn]],
        histories.item[event[drawn]],
        histories.action[event[drawn]],
    )


def test_validation_events_are_drawn_with_the_shares_of_the_training_moments(tmp_path: Path) -> None:
    rows = ["user_id,item_id,action,timestamp"]
    for user in range(100):
        # Of 8 training moments one is a purchase; of the validation events, the ninth, every second.
        actions = ["view"] * 5 + ["purchase"] + ["view"] * 3 + [("view", "purchase")[user % 2], "cart"]
        rows += [
            f"u{user},i{(user + step) % 30},{action},{1_700_000_000 + 60 * step}"
            for step, action in enumerate(actions)
        ]
    (tmp_path / "log.csv").write_text("\n".join(rows))
    prepare([tmp_path / "log.csv"], tmp_path / "dataset", PrepareOptions())
    data = Dataset.open(tmp_path / "dataset")
    purchase = data.actions.index(b"purchase")
    assert (Targets.of(data, "leave_one_out", "validation").next_action == purchase).mean() == 0.5
    drawn = calibration_moments(data, "leave_one_out", 10_000, seed=0)
    assert len(drawn) == 100
    assert (drawn.next_action == purchase).mean() == pytest.approx(1 / 8, abs=0.01)
    assert (drawn.next_action == data.actions.index(b"view")).mean() == pytest.approx(7 / 8, abs=0.01)
    assert (drawn.histories.lengths == 9).all()


def test_random_moments_lie_in_their_period_behind_at_least_one_event(dataset: Dataset) -> None:
    histories = dataset.histories
    _, test_cut = time_cuts(histories.time)
    moments = random_moments(dataset, "test", 500, seed=0)
    assert len(moments) == 500
    assert (moments.histories.lengths > 0).all()
    event = np.flatnonzero(histories.time >= test_cut)
    first = histories.offsets[np.searchsorted(histories.offsets, event, side="right") - 1]
    every = {(int(histories.item[at]), int(at - before)) for at, before in zip(event, first, strict=True)}
    drawn = zip(moments.next_item.tolist(), moments.histories.lengths.tolist(), strict=True)
    assert set(drawn) <= every


def test_an_action_that_never_comes_next_stays_finite(dataset: Dataset) -> None:
    model, targets = overconfident(dataset), Targets.of(dataset, "leave_one_out", "validation")
    only_first = Targets(targets.histories, targets.now, targets.next_item, np.ones_like(targets.next_action))
    calibrate(model, only_first, CPU, "reference")
    probability = ModelScorer(model, CPU, "reference").action_probability(
        only_first.histories, only_first.now
    )
    assert np.isfinite(probability).all()
    assert (probability > 0).all()
    assert probability[:, 0].mean() > 0.95


def test_calibration_computes_by_the_implementation_it_is_told(dataset: Dataset) -> None:
    model, targets = overconfident(dataset), Targets.of(dataset, "leave_one_out", "validation", 8)
    calibrate(model, targets, CPU, "reference")
    with pytest.raises(InputError, match="head_dim is 8; there are kernels for 32, 64, 128"):
        calibrate(model, targets, CPU, "triton")
