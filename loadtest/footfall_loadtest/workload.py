"""Workload: histories as they really are, drawn from a prepared data set."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from footfall.errors import InputError
from footfall.folder import read_manifest
from footfall.vocabulary import Vocabulary
from footfall_client import Event

VISITORS = 256
"""Who are about at one time in `visits`."""
MOST_NEW_EVENTS = 3
"""Of a visitor since the last request."""


class Request(NamedTuple):
    """`now` in epoch milliseconds, at the history's last event; `user` where the request says who asks."""

    history: list[Event]
    now: int
    user: str | None = None


@dataclass(frozen=True)
class Workload:
    """Endless requests; the same sequence for the same seed and client number."""

    folder: Path
    max_events: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        read_manifest(self.folder, "dataset")
        if self.max_events < 1:
            raise InputError(f"max_events is {self.max_events}, it must be at least 1")

    def strangers(self, client: int = 0) -> Iterator[Request]:
        """A random user, a random moment in the user's history, what came before it."""
        random, offsets = np.random.default_rng((self.seed, client)), self._columns["offsets"]
        while True:
            user = int(random.integers(len(offsets) - 1))
            yield self._request(user, int(random.integers(offsets[user], offsets[user + 1])) + 1)

    def visitors(self, client: int = 0) -> Iterator[Request]:
        """Users who come back with a few new events each time, and say who they are; who is at the end leaves."""
        random, offsets = np.random.default_rng((self.seed, client)), self._columns["offsets"]
        about: list[tuple[int, int, str]] = []
        names = (f"{client}.{number}" for number in itertools.count())
        while True:
            place = int(random.integers(VISITORS))
            if place >= len(about):
                place, user = len(about), int(random.integers(len(offsets) - 1))
                about.append((user, int(offsets[user]), next(names)))
            user, end, name = about[place]
            end = min(end + int(random.integers(1, MOST_NEW_EVENTS + 1)), int(offsets[user + 1]))
            yield self._request(user, end)._replace(user=name)
            about[place : place + 1] = [(user, end, name)] if end < offsets[user + 1] else []

    def _request(self, user: int, end: int) -> Request:
        items, actions, columns = self._items, self._actions, self._columns
        start = max(int(columns["offsets"][user]), end - self.max_events)
        events = [
            Event(
                items.id(int(columns["item"][place])).decode(),
                actions[columns["action"][place] - 1],
                int(columns["time"][place]),
            )
            for place in range(start, end)
        ]
        return Request(events, int(columns["time"][end - 1]))

    @cached_property
    def _items(self) -> Vocabulary:
        return Vocabulary.load(self.folder / "items")

    @cached_property
    def _actions(self) -> list[str]:
        return [name.decode() for name in Vocabulary.load(self.folder / "actions")]

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        names = ("item", "action", "time", "offsets")
        return {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in names}
