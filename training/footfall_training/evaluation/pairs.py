"""Pairs of items that occur together in histories, and what they tell of other histories; nothing here is learnt."""

import numpy as np
from numpy.typing import NDArray

from footfall.contract import PADDING_INDEX
from footfall.history import Histories


class Pairs:
    """Two items of one history, not more than some steps apart, each pair once:
    before, after int64 [pairs] and its weight fp64 [pairs], ordered by `before`."""

    def __init__(
        self, before: NDArray[np.int64], after: NDArray[np.int64], weight: NDArray[np.float64]
    ) -> None:
        self.before, self.after, self.weight = before, after, weight

    @classmethod
    def within(cls, histories: Histories, nearness: NDArray[np.float64], num_items: int) -> "Pairs":
        """An item and one up to len(nearness) steps later, by how often that is; one step apart it counts as
        nearness[0], two steps as nearness[1]."""
        user = np.repeat(np.arange(histories.num_users), histories.lengths)
        key, total = np.zeros(0, dtype=np.int64), np.zeros(0)
        for step in range(1, min(len(nearness), int(histories.lengths.max(initial=1)) - 1) + 1):
            together = user[step:] == user[:-step]
            before, after = histories.item[:-step][together], histories.item[step:][together]
            found = before.astype(np.int64) * (num_items + 1) + after
            weight = np.concatenate([total, np.full(len(found), nearness[step - 1])])
            key, total = _summed(np.concatenate([key, found]), weight)
        return cls(*np.divmod(key, num_items + 1), total)

    def and_back(self, share: float, num_items: int) -> "Pairs":
        """With each pair its mirror image, of that share of its weight."""
        width = num_items + 1
        key = np.concatenate([self.before * width + self.after, self.after * width + self.before])
        key, total = _summed(key, np.concatenate([self.weight, share * self.weight]))
        return Pairs(*np.divmod(key, width), total)

    def damped(self) -> "Pairs":
        """Weights as the logarithm of 1 more, so that the tenth time says less than the first."""
        return Pairs(self.before, self.after, np.log1p(self.weight))

    def cosine(self, popularity: NDArray[np.int64]) -> "Pairs":
        """Weights over the root of both items' popularities, int64 [num_items + 1]."""
        root = np.sqrt(popularity[self.before] * popularity[self.after])
        return Pairs(self.before, self.after, self.weight / root)


class PairScorer:
    """Scores an item by the pairs it makes with the newest events: the sum of their weights, each event's times
    share[how many events it lies back], fp64 [events that count]."""

    def __init__(self, pairs: Pairs, share: NDArray[np.float64], num_items: int) -> None:
        self._pairs, self._share, self._num_items = pairs, share, num_items
        self._row = np.searchsorted(pairs.before, np.arange(num_items + 2))

    def scores(self, histories: Histories, now: NDArray[np.int64]) -> NDArray[np.float32]:
        back = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(histories.num_events)
        counts = back < len(self._share)
        item, share = histories.item[counts], self._share[back[counts]]
        start, lengths = self._row[item], self._row[item + 1] - self._row[item]
        pair = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - start, lengths)
        user = np.repeat(np.arange(histories.num_users), histories.lengths)[counts]
        width = self._num_items + 1
        cell = np.repeat(user, lengths) * width + self._pairs.after[pair]
        weight = np.repeat(share, lengths) * self._pairs.weight[pair]
        scores = np.bincount(cell, weight, minlength=histories.num_users * width)
        return scores.reshape(-1, width).astype(np.float32)


def popularity(histories: Histories, num_items: int) -> NDArray[np.int64]:
    """How often each item occurs: int64 [num_items + 1]."""
    count = np.bincount(histories.item, minlength=num_items + 1)
    count[PADDING_INDEX] = 0
    return count


def _summed(
    key: NDArray[np.int64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each key once, ascending, and the sum of its weights."""
    keys, place = np.unique(key, return_inverse=True)
    return keys, np.bincount(place, weight, minlength=len(keys)).astype(np.float64)
