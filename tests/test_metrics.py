"""Metrics against numbers worked out by hand, and against scikit-learn's."""

import math

import numpy as np
import pytest
from sklearn.metrics import (
    brier_score_loss,
    label_ranking_average_precision_score,
    log_loss,
    ndcg_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from footfall.errors import InputError
from footfall.metrics import CUTOFFS, auc, calibration_error, probability_metrics, ranking_metrics


def test_ranking_metrics_of_known_places() -> None:
    metrics = ranking_metrics(np.array([1, 3, 11, 1000]), cutoffs=(1, 10))
    assert metrics["recall@1"] == 0.25
    assert metrics["recall@10"] == 0.5
    assert metrics["ndcg@10"] == pytest.approx((1 + 1 / math.log2(4)) / 4)
    assert metrics["mrr@10"] == pytest.approx((1 + 1 / 3) / 4)


def test_auc_counts_ties_half() -> None:
    happened = np.array([True, False, True, False])
    assert auc(np.array([0.9, 0.1, 0.8, 0.2]), happened) == 1.0
    assert auc(np.array([0.5, 0.5, 0.5, 0.5]), happened) == 0.5
    assert auc(np.array([0.9, 0.8, 0.3, 0.3]), happened) == pytest.approx(2.5 / 4)
    assert math.isnan(auc(np.array([0.1, 0.2]), np.array([True, True])))


def test_predicting_the_mean_has_normalised_entropy_1_and_no_calibration_error() -> None:
    happened = np.array([True] + [False] * 3)
    metrics = probability_metrics(np.full(4, 0.25), happened)
    assert metrics["ne"] == pytest.approx(1.0)
    assert metrics["ece"] == pytest.approx(0.0)
    assert metrics["brier"] == pytest.approx(0.25 * 0.75)


def test_calibration_error_is_the_mean_gap_between_claimed_and_seen() -> None:
    assert calibration_error(np.array([0.9, 0.9, 0.1]), np.array([True, False, False])) == pytest.approx(
        (abs(1.8 - 1) + 0.1) / 3
    )


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.1, 1.5])
def test_what_is_no_probability_has_no_metrics(wrong: float) -> None:
    with pytest.raises(InputError, match=f"1 of 3 probabilities are not in 0..1, the first is {wrong}"):
        probability_metrics(np.array([0.2, wrong, 0.5]), np.array([True, False, True]))


def test_ranking_metrics_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    num_users, num_items = 200, 120
    scores = random.permuted(np.tile(np.arange(num_items, dtype=float), (num_users, 1)), axis=1)
    target = random.integers(num_items, size=num_users)
    rank = (scores >= scores[np.arange(num_users), target][:, None]).sum(axis=1)
    relevant = np.eye(num_items)[target]
    metrics = ranking_metrics(rank)
    for k in CUTOFFS:
        assert metrics[f"ndcg@{k}"] == pytest.approx(ndcg_score(relevant, scores, k=k))
        recall = top_k_accuracy_score(target, scores, k=k, labels=np.arange(num_items))
        assert metrics[f"recall@{k}"] == pytest.approx(recall)
    everywhere = ranking_metrics(rank, [num_items])
    assert everywhere[f"mrr@{num_items}"] == pytest.approx(
        label_ranking_average_precision_score(relevant, scores)
    )


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_probability_metrics_are_those_of_scikit_learn(share: float) -> None:
    random = np.random.default_rng(1)
    happened = random.random(3_000) < share
    # Rounded, so that many are equal.
    probability = np.clip(np.round(share + 0.3 * happened + random.normal(0, 0.2, 3_000), 2), 0, 1).astype(
        np.float64
    )
    metrics = probability_metrics(probability, happened)
    assert metrics["auc"] == pytest.approx(roc_auc_score(happened, probability))
    assert metrics["brier"] == pytest.approx(brier_score_loss(happened, probability))
    clipped = np.clip(probability, 1e-12, 1 - 1e-12)
    assert metrics["log_loss"] == pytest.approx(log_loss(happened, clipped))
    mean = np.full(len(happened), happened.mean())
    assert metrics["ne"] == pytest.approx(log_loss(happened, clipped) / log_loss(happened, mean))
