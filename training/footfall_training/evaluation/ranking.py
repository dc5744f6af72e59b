"""Ranking: the target's place when the whole catalogue is ranked.

The protocol (DESIGN section 5): history = all events before the target; seen items are removed, as the server
does, so a target that was seen before cannot be found; ties in score are broken against the target; a score that is
not finite ranks last.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from footfall.contract import PADDING_INDEX
from footfall.errors import InputError
from footfall.history import Histories, slices
from footfall_data.dataset import Dataset, SplitName

Part = Literal["validation", "test"]
BATCH_SCORES = 1 << 24
"""Scores held at once: 64 MiB in fp32, whatever the number of users."""


class Scorer(Protocol):
    """Anything that can rank: higher is better; column 0 is padding and ignored."""

    def scores(self, histories: Histories, now: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [users, num_items + 1]; now int64 [users]: when each history is asked about."""


@dataclass(frozen=True)
class Targets:
    """Users with an event to predict: their histories before it, its time (epoch ms int64 [users]), and the event."""

    histories: Histories
    now: NDArray[np.int64]
    next_item: NDArray[np.int32]
    next_action: NDArray[np.uint8]

    @classmethod
    def of(cls, dataset: Dataset, split: SplitName, part: Part, most: int | None = None) -> "Targets":
        """All targets of a split's part, or `most` of them spread evenly over the users."""
        target_at = getattr(dataset.split(split), f"{part}_at")
        users = np.flatnonzero(target_at > 0)
        if not len(users):
            raise InputError(f"{dataset.folder} has no user with a {part} event in its {split} split")
        if most is not None and most < len(users):
            users = users[np.linspace(0, len(users) - 1, most).astype(np.int64)]
        first = dataset.histories.offsets[:-1][users]
        position = first + target_at[users]
        whole = dataset.histories
        before = slices(whole, first, position)
        return cls(before, whole.time[position], whole.item[position], whole.action[position])

    def __len__(self) -> int:
        return len(self.next_item)


def rank_targets(
    scorer: Scorer, targets: Targets, num_items: int, *, keep_seen: bool = False
) -> NDArray[np.int64]:
    """Each target's place in its user's list, from 1: int64 [targets]; num_items + 1 = cannot be found."""
    ranks = np.empty(len(targets), dtype=np.int64)
    batch = max(BATCH_SCORES // (num_items + 1), 1)
    for start in range(0, len(targets), batch):
        end = min(start + batch, len(targets))
        offsets = targets.histories.offsets
        histories = slices(targets.histories, offsets[start:end], offsets[start + 1 : end + 1])
        scores = scorer.scores(histories, targets.now[start:end])
        unknown = num_items + 1 - scores.shape[1]  # newer than the scorer: without a score
        scores = np.pad(scores, ((0, 0), (0, unknown)), constant_values=-np.inf) if unknown else scores
        ranks[start:end] = _rank(scores, histories, targets.next_item[start:end], keep_seen)
    return ranks


def _rank(
    scores: NDArray[np.float32], histories: Histories, target: NDArray[np.int32], keep_seen: bool
) -> NDArray[np.int64]:
    row = np.arange(len(target))
    listed = np.isfinite(scores)
    listed[:, PADDING_INDEX] = False
    if not keep_seen:
        listed[np.repeat(row, histories.lengths), histories.item] = False
    # The target itself compares equal, so the count of scores at least as high is the pessimistic rank.
    rank = np.count_nonzero(listed & (scores >= scores[row, target][:, None]), axis=1)
    return np.where(listed[row, target], rank, scores.shape[1])
