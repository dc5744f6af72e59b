"""Dataset: the folder `footfall prepare` writes and everything after it reads, memory-mapped."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from footfall.errors import check_choice
from footfall.folder import read_manifest
from footfall.history import Histories
from footfall.sealed import Sealed
from footfall.vocabulary import Vocabulary

KIND = "dataset"
SplitName = Literal["leave_one_out", "time"]
SPLIT_NAMES: tuple[SplitName, ...] = ("leave_one_out", "time")


@dataclass(frozen=True)
class Split:
    """Which of each user's events train, validate and test; positions count within the user's history.

    train_end int64 [users]: events before it may train. validation_at, test_at int64 [users]: the event to
    predict from all events before it; -1 where the user has none.
    """

    train_end: NDArray[np.int64]
    validation_at: NDArray[np.int64]
    test_at: NDArray[np.int64]


class Dataset(Sealed):
    """A prepared log.

    Files: offsets.npy int64 [users + 1]; item.npy int32, action.npy uint8, time.npy int64 [events];
    split_<name>.npy int64 [users, 3] (columns of Split); users/, items/, actions/ vocabularies (user u is id
    u + 1); items.parquet (one row an item in index order: item_id, title, category,
    price; null where the log and the item table are silent); report.json;
    manifest.json (lineage, repeat_ms, options, source).
    """

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Raises InputError where `folder` is not a finished data set."""
        return cls(folder, read_manifest(folder, KIND))

    @cached_property
    def histories(self) -> Histories:
        return Histories(*(self._array(name) for name in ("item", "action", "time", "offsets")))

    @cached_property
    def users(self) -> Vocabulary:
        return Vocabulary.load(self.folder / "users")

    @property
    def cleaning(self) -> dict[str, Any]:
        """The rules of cleaning by name: repeat_ms, robot_events_per_minute, k_core."""
        rules = dict(self.report["rules"])
        return {**rules.pop("history"), **rules}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the events, their vocabularies and splits, hexadecimal; users' ids are no part of it."""
        names = sorted(
            name for name in self.manifest["files"] if name.endswith(".npy") and "users" not in name
        )
        facts = [f"{name} {self.manifest['files'][name]['sha256']}" for name in names]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    @cached_property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return report

    def split(self, name: SplitName) -> Split:
        check_choice("split", name, SPLIT_NAMES)
        columns = self._array(f"split_{name}")
        return Split(columns[:, 0], columns[:, 1], columns[:, 2])

    def _array(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return array
