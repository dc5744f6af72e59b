"""Moments: when a server may be asked what comes next, drawn from events that no weights were fitted on."""

import numpy as np
from numpy.typing import NDArray

from footfall.errors import InputError
from footfall.history import slices
from footfall_data.dataset import Dataset, SplitName
from footfall_data.splits import in_period
from footfall_training.evaluation.ranking import Part, Targets


def calibration_moments(dataset: Dataset, split: SplitName, most: int, seed: int) -> Targets:
    """At most `most` moments as a server meets them, which training left out.

    By time these are random moments of the validation period. Leave-one-out leaves one validation event a user, the
    last but one, and which action that is differs from random moments (histories end in purchases); so the
    validation events are drawn with each action's share of the training moments. Of those only the actions are
    counted: to calibrate on the histories a model was fitted on would leave it too sure.
    """
    if split == "time":
        return random_moments(dataset, "validation", most, seed)
    targets = Targets.of(dataset, split, "validation", most)
    drawn = _drawn(targets.next_action, _action_counts(dataset, split))
    offsets = targets.histories.offsets
    histories = slices(targets.histories, offsets[drawn], offsets[drawn + 1])
    return Targets(histories, targets.now[drawn], targets.next_item[drawn], targets.next_action[drawn])


def random_moments(dataset: Dataset, part: Part, most: int, seed: int) -> Targets:
    """At most `most` random events of a part's period in the split by time, each with the user's events before it."""
    histories = dataset.histories
    asked = in_period(histories, part)
    asked[histories.offsets[:-1]] = False  # of a first event nothing is known before
    event = np.flatnonzero(asked)
    if not len(event):
        raise InputError(f"{dataset.folder} has no user with an event before one of its {part} period")
    if most < len(event):
        event = np.sort(np.random.default_rng(seed).choice(event, most, replace=False))
    first = histories.offsets[np.searchsorted(histories.offsets, event, side="right") - 1]
    before = slices(histories, first, event)
    return Targets(before, histories.time[event], histories.item[event], histories.action[event])


def _action_counts(dataset: Dataset, split: SplitName) -> NDArray[np.int64]:
    """How often each action follows a training event: int64 [num_actions + 1]."""
    histories, train_end = dataset.histories, dataset.split(split).train_end
    first = histories.offsets[:-1]
    follows = slices(histories, first + np.minimum(1, train_end), first + train_end)
    return np.bincount(follows.action, minlength=len(dataset.actions) + 1)


def _drawn(action: NDArray[np.uint8], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """As many places of `action` as it has, each action's share as in `wanted`: int64 [events].

    Evenly spaced in the running sum of the weights, by action: every share is met to one event.
    """
    there = np.bincount(action, minlength=len(wanted))
    weight = (wanted / np.maximum(there, 1))[action]
    if not weight.any():  # no action of the targets was ever trained on
        return np.arange(len(action))
    order = np.argsort(action, kind="stable")
    upto = np.cumsum(weight[order])
    place = np.searchsorted(upto, (np.arange(len(action)) + 0.5) / len(action) * upto[-1])
    drawn: NDArray[np.int64] = order[place]
    return drawn
