"""Baselines every model must beat: what is popular, and what followed the last item before."""

import numpy as np
from numpy.typing import NDArray

from footfall.history import Histories


class Popularity:
    """Scores an item by how often it occurs in training."""

    def __init__(self, training: Histories, num_items: int) -> None:
        self._count = np.bincount(training.item, minlength=num_items + 1).astype(np.float32)

    def scores(self, histories: Histories, now: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.repeat(self._count[None], histories.num_users, axis=0)


class LastItemNeighbour:
    """Scores an item by how often it directly followed the last one, over the root of both popularities."""

    def __init__(self, training: Histories, num_items: int) -> None:
        starts_history = np.zeros(training.num_events + 1, dtype=bool)
        starts_history[training.offsets] = True
        follows = np.flatnonzero(~starts_history[1:-1]) + 1
        pair = training.item[follows - 1].astype(np.int64) * (num_items + 1) + training.item[follows]
        pairs, count = np.unique(pair, return_counts=True)
        before, after = np.divmod(pairs, num_items + 1)
        popularity = np.bincount(training.item, minlength=num_items + 1)
        cosine = count / np.sqrt(popularity[before] * popularity[after])
        self._after, self._cosine = after, cosine.astype(np.float32)
        self._row = np.searchsorted(before, np.arange(num_items + 2))

    def scores(self, histories: Histories, now: NDArray[np.int64]) -> NDArray[np.float32]:
        scores = np.zeros((histories.num_users, len(self._row) - 1), dtype=np.float32)
        last = histories.item[histories.offsets[1:] - 1]
        start, end = self._row[last], self._row[last + 1]
        lengths = end - start
        row = np.repeat(np.arange(len(last)), lengths)
        entry = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - start, lengths)
        scores[row, self._after[entry]] = self._cosine[entry]
        return scores
