"""Batches: windows of training histories, grouped by length, in an order that (seed, epoch) alone decides."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footfall.errors import InputError
from footfall.history import Histories, slices
from footfall_models.inputs import PackedInputs
from footfall_training.objectives import NEXT_ITEM, Objective

POOL_BATCHES = 64
"""Windows are sorted by length within a random pool of this many batches: short padding, still random."""


@dataclass(frozen=True)
class Batch:
    """Windows, packed, and, state by state, what came next: int64 [scored] each.

    scored int64: the events whose states tell; None: all of them.
    """

    inputs: PackedInputs
    next_item: Tensor
    next_action: Tensor
    scored: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        item, action = (tensor.to(device, non_blocking=True) for tensor in (self.next_item, self.next_action))
        scored = None if self.scored is None else self.scored.to(device, non_blocking=True)
        return Batch(self.inputs.to(device), item, action, scored)


@dataclass(frozen=True)
class Windows:
    """Event ranges start[i]:end[i] (int64), each within one user and at most max_length + 1 long."""

    histories: Histories
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    objective: Objective = NEXT_ITEM

    @classmethod
    def cut(
        cls,
        histories: Histories,
        train_end: NDArray[np.int64],
        max_length: int,
        objective: Objective = NEXT_ITEM,
    ) -> "Windows":
        """Cut each history's first `train_end` events so that each but the first is a target exactly once."""
        first, num_events = histories.offsets[:-1], train_end
        step = 1 if objective.tells == "last event" else max_length
        num_windows = np.maximum(-(-(num_events - 1) // step), 0)
        user = np.repeat(np.arange(len(first)), num_windows)
        before = np.arange(len(user)) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
        # Counted from the newest event, so that only a history's oldest window is short.
        end = first[user] + num_events[user] - before * step
        start = np.maximum(end - max_length - 1, first[user])
        if not len(start):
            raise InputError("no user has two training events, so there is no next item to learn from")
        return cls(histories, start, end, objective)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Of each window."""
        lengths = self.end - self.start - 1
        return np.ones_like(lengths) if self.objective.tells == "last event" else lengths

    @property
    def num_targets(self) -> int:
        return int(self.targets.sum())

    def num_batches(self, batch_size: int) -> int:
        """As many as hold `batch_size` windows of mean length; no fewer targets than the longest window has."""
        targets = self.targets
        least = max(batch_size * self.num_targets // len(targets), int(targets.max()))
        return max(self.num_targets // least, 1)

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """Window numbers of every batch of the epoch.

        Batches are of like numbers of targets, not of windows: a batch's loss is the mean of its targets, so that
        one in a batch of short windows would weigh many times one in a batch of long ones.
        """
        random = np.random.default_rng((seed, epoch))
        order = random.permutation(len(self.start))
        pool = np.arange(len(order)) // (batch_size * POOL_BATCHES)
        by_length = np.lexsort(((self.end - self.start)[order], pool))
        order = order[by_length]
        targets = self.targets[order]
        # Equal shares of all targets, none smaller than a window: no batch is empty.
        batch = (np.cumsum(targets) - 1) * self.num_batches(batch_size) // self.num_targets
        parts = np.split(order, np.flatnonzero(np.diff(batch)) + 1)
        return [parts[index] for index in random.permutation(len(parts))]

    def load(self, windows: NDArray[np.int64], random: np.random.Generator) -> Batch:
        """What the objective makes of these windows."""
        events = slices(self.histories, self.start[windows], self.end[windows])
        examples = self.objective.examples(events, random)
        return Batch(
            PackedInputs.of(examples.inputs, torch.device("cpu")),
            torch.from_numpy(examples.item.astype(np.int64)),
            torch.from_numpy(examples.action.astype(np.int64)),
            None if examples.scored is None else torch.from_numpy(examples.scored),
        )

    def epoch(self, batch_size: int, seed: int, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The epoch's batches, without its first `skip`."""
        for number, windows in list(enumerate(self.batches(batch_size, seed, epoch)))[skip:]:
            yield self.load(windows, np.random.default_rng((seed, epoch, number)))
