"""Metrics: of ranked lists, from the target's place in each, and of action probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from footfall.errors import InputError

CUTOFFS = (1, 5, 10, 20, 50, 100)
CALIBRATION_BINS = 15


def ranking_metrics(ranks: NDArray[np.int64], cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Recall@k (one target each, so it equals the hit rate), NDCG@k and MRR@k, averaged over users.

    ranks int64 [users]: the target's place in the user's list, from 1. One relevant item makes the ideal DCG 1,
    so NDCG is 1 / log2(rank + 1) (Jarvelin and Kekalainen, 2002).
    """
    metrics: dict[str, float] = {}
    for name, gain in _gains(ranks).items():
        metrics |= {f"{name}@{k}": float(np.mean(gain * (ranks <= k))) for k in cutoffs}
    return metrics


def _gains(ranks: NDArray[np.int64]) -> Mapping[str, NDArray[np.float64]]:
    return {"recall": np.ones(len(ranks)), "ndcg": 1 / np.log2(ranks + 1), "mrr": 1 / ranks}


def probability_metrics(probability: NDArray[np.float64], happened: NDArray[np.bool_]) -> dict[str, float]:
    """AUC, log loss, NE, Brier score and ECE of one action's predicted probability.

    probability float [events], happened bool [events]. AUC is NaN where every event agrees. NE is the log loss
    over that of always predicting the mean (He et al., ADKDD 2014), NaN in the same case. Raises InputError where a
    probability is none.
    """
    wrong = ~((probability >= 0) & (probability <= 1))  # so that NaN is wrong too
    if wrong.any():
        raise InputError(
            f"{wrong.sum()} of {len(probability)} probabilities are not in 0..1, the first is {probability[wrong][0]}"
        )
    clipped = np.clip(probability, 1e-12, 1 - 1e-12)
    log_loss = float(-np.mean(np.where(happened, np.log(clipped), np.log1p(-clipped))))
    share = float(np.mean(happened))
    varies = 0 < share < 1
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share)) if varies else np.nan
    return {
        "auc": auc(probability, happened),
        "log_loss": log_loss,
        "ne": float(log_loss / entropy),
        "brier": float(np.mean((probability - happened) ** 2)),
        "ece": calibration_error(probability, happened),
    }


def auc(score: NDArray[np.float64], happened: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the Mann-Whitney statistic, ties counting half; expects no NaN."""
    num_positive = int(happened.sum())
    num_negative = len(happened) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2
    wins = mean_rank[place][happened].sum() - num_positive * (num_positive + 1) / 2
    return float(wins / (num_positive * num_negative))


def calibration_error(probability: NDArray[np.float64], happened: NDArray[np.bool_]) -> float:
    """Expected calibration error over equal-width bins (Guo et al., arXiv 1706.04599, eq. 5)."""
    bin_of = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    excess = np.bincount(bin_of, weights=probability - happened, minlength=CALIBRATION_BINS)
    return float(np.abs(excess).sum() / len(probability))
