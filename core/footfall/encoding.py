"""Encoding: raw events to the indices of a vocabulary, all users of a batch in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from footfall.contract import DEFAULT_ACTION, FIRST_INDEX, PADDING_INDEX
from footfall.events import canonical_action
from footfall.history import Histories, select
from footfall.packed import offsets_of
from footfall.vocabulary import Vocabulary

MAX_SPELLINGS = 1 << 12
"""Of actions, that are remembered: clients make up any number."""


@dataclass(frozen=True)
class Encoded:
    """Users' events as indices; those of an unknown item or action are left out, and counted.

    item int32 [events]: of every event, PADDING_INDEX where it is unknown; unknown_items and unknown_actions int64
    [users], an event of both counts as the former.
    """

    histories: Histories
    item: NDArray[np.int32]
    unknown_items: NDArray[np.int64]
    unknown_actions: NDArray[np.int64]


def encode(
    item_ids: Sequence[bytes],
    actions: Sequence[bytes],
    times: NDArray[np.int64],
    offsets: NDArray[np.int64],
    items: Vocabulary,
    action_names: Vocabulary,
) -> Encoded:
    """Map raw events, packed, to indices. offsets int64 [users + 1].

    An empty action is DEFAULT_ACTION, or where the log had none of these its first action in funnel order.
    """
    item = items.indices(item_ids)
    action = np.fromiter(map(_spellings_of(action_names).__getitem__, actions), np.uint8, len(actions))
    known_item = item != PADDING_INDEX
    known = known_item & (action != PADDING_INDEX)
    every = Histories(item, action, times, offsets)
    kept = select(every, known)
    unknown_items = _counts(~known_item, offsets)
    return Encoded(kept, item, unknown_items, every.lengths - kept.lengths - unknown_items)


class _Spellings(dict[bytes, int]):
    """The index of each spelling of an action that was met; 0 where it is unknown."""

    def __init__(self, names: Vocabulary) -> None:
        super().__init__({b"": names.index(DEFAULT_ACTION.encode()) or FIRST_INDEX})
        self._names = names

    def __missing__(self, name: bytes) -> int:
        index = self._names.index(canonical_action(name.decode()).encode())
        if len(self) < MAX_SPELLINGS:
            self[name] = index
        return index


@lru_cache(maxsize=4)
def _spellings_of(names: Vocabulary) -> _Spellings:
    return _Spellings(names)


def _counts(chosen: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of each user's events are chosen."""
    before = offsets_of(chosen)
    return np.diff(before[offsets])
