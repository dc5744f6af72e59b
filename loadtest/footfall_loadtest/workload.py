"""Workload: histories as they really are, drawn from a prepared data set."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from footfall.errors import InputError
from footfall.folder import read_manifest
from footfall.vocabulary import Vocabulary
from footfall_client import Event


@dataclass(frozen=True)
class Workload:
    """Endless requests: a random user, a random moment in the user's history, what came before it."""

    folder: Path
    max_events: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        read_manifest(self.folder, "dataset")
        if self.max_events < 1:
            raise InputError(f"max_events is {self.max_events}, it must be at least 1")

    def histories(self, client: int = 0) -> Iterator[tuple[list[Event], int]]:
        """Histories and when each is asked about, at its last event, in epoch milliseconds.

        The same sequence for the same seed and client number.
        """
        random = np.random.default_rng((self.seed, client))
        item, action, time, offsets = (
            np.load(self.folder / f"{name}.npy", mmap_mode="r")
            for name in ("item", "action", "time", "offsets")
        )
        items = Vocabulary.load(self.folder / "items")
        actions = [name.decode() for name in Vocabulary.load(self.folder / "actions")]
        while True:
            user = random.integers(len(offsets) - 1)
            end = random.integers(offsets[user], offsets[user + 1]) + 1
            start = max(int(offsets[user]), int(end) - self.max_events)
            events = [
                Event(items.id(int(item[place])).decode(), actions[action[place] - 1], int(time[place]))
                for place in range(start, int(end))
            ]
            yield events, int(time[end - 1])
