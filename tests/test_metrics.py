"""Metrics against numbers worked out by hand."""

import math

import numpy as np
import pytest

from footfall.errors import InputError
from footfall.metrics import auc, calibration_error, probability_metrics, ranking_metrics


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
