"""Encoding: raw events to the indices of a vocabulary, all users of a batch in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from footfall.contract import DEFAULT_ACTION, FIRST_INDEX, PADDING_INDEX
from footfall.events import canonical_action
from footfall.history import Histories, select
from footfall.packed import offsets_of
from footfall.vocabulary import Vocabulary


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
    default = action_names.index(DEFAULT_ACTION.encode()) or FIRST_INDEX
    spelled = {
        name: action_names.index(canonical_action(name.decode()).encode()) if name else default
        for name in set(actions)
    }
    action = np.fromiter(map(spelled.__getitem__, actions), np.uint8, len(actions))
    known_item = item != PADDING_INDEX
    known = known_item & (action != PADDING_INDEX)
    every = Histories(item, action, times, offsets)
    kept = select(every, known)
    unknown_items = _counts(~known_item, offsets)
    return Encoded(kept, item, unknown_items, every.lengths - kept.lengths - unknown_items)


def _counts(chosen: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of each user's events are chosen."""
    before = offsets_of(chosen)
    return np.diff(before[offsets])
