"""Calibration: probabilities of the next action come to agree with how often it really follows."""

import numpy as np
import pytest
import torch

from footfall.errors import InputError
from footfall.metrics import probability_metrics
from footfall_data.dataset import Dataset
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel
from footfall_training.calibration import calibrate
from footfall_training.evaluation.ranking import Targets
from footfall_training.evaluation.scorer import ModelScorer

CPU = torch.device("cpu")


def overconfident(dataset: Dataset) -> SequenceModel:
    """A model whose action head knows nothing and is sure of it."""
    torch.manual_seed(0)
    model = SequenceModel(ModelConfig(len(dataset.items), len(dataset.actions), width=16, max_length=20))
    torch.nn.init.normal_(model.get_parameter("heads.action.linear.weight"), std=2.0)
    return model


def test_an_overconfident_action_head_is_calibrated(dataset: Dataset) -> None:
    model, targets = overconfident(dataset), Targets.of(dataset, "leave_one_out", "validation")
    scorer = ModelScorer(model, CPU, "reference")
    before = scorer.action_probability(targets.histories)
    weights = {name: tensor.clone() for name, tensor in model.named_parameters()}
    calibrate(model, targets, CPU, "reference")
    after = scorer.action_probability(targets.histories)
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-6)  # fp32, as served
    for column in range(len(dataset.actions)):
        happened = targets.next_action == column + 1
        errors = [probability_metrics(side[:, column], happened)["ece"] for side in (before, after)]
        assert errors[1] < 0.05 < errors[0]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.named_parameters())


def test_an_action_that_never_comes_next_stays_finite(dataset: Dataset) -> None:
    model, targets = overconfident(dataset), Targets.of(dataset, "leave_one_out", "validation")
    only_first = Targets(targets.histories, targets.next_item, np.ones_like(targets.next_action))
    calibrate(model, only_first, CPU, "reference")
    probability = ModelScorer(model, CPU, "reference").action_probability(only_first.histories)
    assert np.isfinite(probability).all()
    assert (probability > 0).all()
    assert probability[:, 0].mean() > 0.95


def test_calibration_computes_by_the_implementation_it_is_told(dataset: Dataset) -> None:
    model, targets = overconfident(dataset), Targets.of(dataset, "leave_one_out", "validation")
    calibrate(model, targets, CPU, "reference")
    with pytest.raises(InputError, match="head_dim is 8; there are kernels for 32, 64, 128"):
        calibrate(model, targets, CPU, "triton")
