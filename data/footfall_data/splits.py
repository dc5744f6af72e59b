"""Splits: which of each user's events train, validate and test."""

import numpy as np
from numpy.typing import NDArray

from footfall.contract import UNKNOWN_TIME
from footfall.history import Histories, slices
from footfall_data.dataset import Dataset, Split, SplitName

NONE = -1
VALIDATION_QUANTILE = 0.8
TEST_QUANTILE = 0.9


def leave_one_out(histories: Histories) -> Split:
    """The last event tests, the one before it validates; histories of fewer than 3 events only train."""
    lengths = histories.lengths
    enough = lengths >= 3
    return Split(
        train_end=np.where(enough, lengths - 2, lengths),
        validation_at=np.where(enough, lengths - 2, NONE),
        test_at=np.where(enough, lengths - 1, NONE),
    )


def time_cuts(time: NDArray[np.int64]) -> tuple[int, int]:
    """Epoch ms where validation and test begin: the last 10 % of events test, the 10 % before validate."""
    ranks = [int(len(time) * quantile) for quantile in (VALIDATION_QUANTILE, TEST_QUANTILE)]
    validation, test = np.partition(time, ranks)[ranks]
    return int(validation), int(test)


def in_period(histories: Histories, part: str) -> NDArray[np.bool_]:
    """The events of by_time's "validation" or "test" period: bool [events]."""
    validation, test = time_cuts(histories.time)
    if part == "test":
        return histories.time >= test
    return (histories.time >= validation) & (histories.time < test)


def by_time(histories: Histories) -> Split:
    """Events before the validation cut train; a user's first event after a cut is predicted.

    A user without any event before that one is not asked about, nor one without an event in the period; nobody is
    where the log holds an order and no times: all events train.
    """
    if (histories.time == UNKNOWN_TIME).all():
        nobody = np.full(histories.num_users, NONE)
        return Split(train_end=histories.lengths, validation_at=nobody, test_at=nobody)
    validation_cut, test_cut = time_cuts(histories.time)
    train_end = _events_before(histories, validation_cut)
    test_at = _events_before(histories, test_cut)
    lengths = histories.lengths
    return Split(
        train_end=train_end,
        validation_at=np.where((train_end > 0) & (train_end < test_at), train_end, NONE),
        test_at=np.where((test_at > 0) & (test_at < lengths), test_at, NONE),
    )


def columns(split: Split) -> NDArray[np.int64]:
    """int64 [users, 3], as the data set stores it."""
    return np.stack([split.train_end, split.validation_at, split.test_at], axis=1)


def _events_before(histories: Histories, cut: int) -> NDArray[np.int64]:
    """Events of each user before `cut`, int64 [users]; every user has at least one event."""
    return np.add.reduceat(histories.time < cut, histories.offsets[:-1], dtype=np.int64)


def training_histories(dataset: Dataset, split: SplitName) -> Histories:
    """The events a split lets a model learn from."""
    first = dataset.histories.offsets[:-1]
    return slices(dataset.histories, first, first + dataset.split(split).train_end)
