"""Baselines every model must beat: nothing in them is learnt but counted."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from footfall.history import Histories
from footfall_training.evaluation.pairs import Pairs, PairScorer, popularity
from footfall_training.evaluation.ranking import Scorer

NEARNESS = 1 / np.arange(1, 6)
"""Of an item that came one to five events behind another."""
BACK = 0.2
"""Share of an item that came before another."""
DECAY = 0.5 ** np.arange(10)
"""Share of the newest ten events, the newest first. On amazon-beauty-2014's validation events of 8,000 users all this
gives an NDCG@10 of .0662; without BACK it is .0655, and without the logarithm too .0628."""
KNN_EVENTS = 50
"""So far apart at most are two items of one history that are neighbours, and so many of a history have a say."""


class Popularity:
    """Scores an item by how often it occurs in training."""

    def __init__(self, training: Histories, num_items: int) -> None:
        self._count = popularity(training, num_items).astype(np.float32)

    def scores(self, histories: Histories, now: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.repeat(self._count[None], histories.num_users, axis=0)


def last_item_neighbour(training: Histories, num_items: int) -> Scorer:
    """Scores an item by how often it directly followed the last one, over the root of both popularities."""
    pairs = Pairs.within(training, np.ones(1), num_items).cosine(popularity(training, num_items))
    return PairScorer(pairs, np.ones(1), num_items)


def co_occurrence(training: Histories, num_items: int) -> Scorer:
    """Scores an item by how often and how near it came with each of the newest ten, behind it rather than before."""
    pairs = Pairs.within(training, NEARNESS, num_items).and_back(BACK, num_items).damped()
    return PairScorer(pairs, DECAY, num_items)


def item_knn(training: Histories, num_items: int) -> Scorer:
    """Item-kNN (Sarwar et al., WWW 2001): by how often an item occurs in one history with each of this one's items,
    over the root of both popularities."""
    pairs = Pairs.within(training, np.ones(KNN_EVENTS), num_items).and_back(1, num_items)
    return PairScorer(pairs.cosine(popularity(training, num_items)), np.ones(KNN_EVENTS), num_items)


BASELINES: dict[str, Callable[[Histories, int], Scorer]] = {
    "popularity": Popularity,
    "last-item neighbour": last_item_neighbour,
    "item-kNN": item_knn,
    "co-occurrence with decay": co_occurrence,
}
