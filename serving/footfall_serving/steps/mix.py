"""Mix: of which items and actions the requests' events are, beside the shares that training had of these."""

from collections.abc import Mapping

import numpy as np

from footfall.contract import FIRST_INDEX
from footfall_engines.mix import TrainingMix
from footfall_serving.request import Indexed
from footfall_serving.steps.counters import Counter
from footfall_serving.steps.step import Step


class Mix:
    """Groups of items, never an item. Of a version that was exported without shares it counts nothing."""

    def __init__(self, step: Step) -> None:
        self._training = TrainingMix.open(step.version)
        if self._training is not None:
            self._items = _counted(step, "item", self._training.items)
            self._actions = _counted(step, "action", self._training.actions)

    def add(self, indexed: Indexed) -> None:
        training = self._training
        if training is None:
            return
        groups = np.bincount(training.item_group[indexed.item], minlength=len(training.items))
        self._items.add_all(groups.tolist())
        if training.actions:
            actions = np.bincount(indexed.action, minlength=len(training.actions) + FIRST_INDEX)
            self._actions.add_all(actions[FIRST_INDEX:].tolist())


def _counted(step: Step, of: str, shares: Mapping[str, float]) -> Counter:
    labels = [{"of": of, "group": group} for group in shares]
    step.counters.constant(
        "footfall_training_mix_share",
        "Share of the version's training events that are of a group of items (20 of equal shares, the most popular"
        " first, and those that training never read) or of an action.",
        labels,
        list(shares.values()),
    )
    return step.counters.mix(
        "footfall_mix_events_total", "Events of requests by the same groups and actions.", labels
    )
