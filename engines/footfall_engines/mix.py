"""Mix: which share of a version's training each group of items and each action had, so that requests are told apart
from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import PADDING_INDEX
from footfall_engines.version import Version

GROUP_FILE = "item_groups.npy"
NUM_GROUPS = 20
UNTRAINED, UNKNOWN = "untrained", "unknown"


@dataclass(frozen=True)
class TrainingMix:
    """`item_group` uint8 [items + 1]: of each index its place in `items`; of PADDING_INDEX, which an item that nobody
    knows has, UNKNOWN's. `items` and `actions`: shares of training's events; UNKNOWN has none of them.
    """

    item_group: NDArray[np.uint8]
    items: Mapping[str, float]
    actions: Mapping[str, float]

    @classmethod
    def of(cls, events: NDArray[np.int64], actions: Mapping[str, float]) -> "TrainingMix":
        """events: [items + 1], how many training had of each index; the groups have equal shares of them, the popular
        items first, but that an item is in one group alone.
        """
        order = np.argsort(-events, kind="stable")
        before = np.cumsum(events[order]) - events[order]
        group = np.empty(len(events), np.uint8)
        group[order] = before * NUM_GROUPS // max(int(events.sum()), 1)
        group[events == 0] = NUM_GROUPS
        group[PADDING_INDEX] = NUM_GROUPS + 1
        shares = np.bincount(group, weights=events, minlength=NUM_GROUPS + 2) / max(int(events.sum()), 1)
        names = [*(f"{place:02d}" for place in range(1, NUM_GROUPS + 1)), UNTRAINED, UNKNOWN]
        return cls(group, dict(zip(names, shares.tolist(), strict=True)), dict(actions))

    @classmethod
    def open(cls, version: Version) -> "TrainingMix | None":
        """None of a version that was exported before there were any."""
        facts = version.manifest.get("training_mix")
        if facts is None:
            return None
        group = np.asarray(np.load(version.folder / GROUP_FILE, mmap_mode="r"))
        return cls(group, facts["items"], facts["actions"])

    def save(self, folder: Path) -> None:
        np.save(folder / GROUP_FILE, self.item_group)

    def facts(self) -> dict[str, Any]:
        """For the version's manifest."""
        return {"items": dict(self.items), "actions": dict(self.actions)}
