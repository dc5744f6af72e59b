"""Cleaning packed histories: duplicates, repeats, robots and k-core mark the events to drop."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from footfall.history import Histories, HistoryRules, select, time_since_same
from footfall_data.cleaning import dropped
from footfall_data.logs.reading import Progress

MINUTE_MS = 60_000
BLOCK_EVENTS = 2_000_000
"""Users are cleaned in blocks of about this many events: the sort keys of 50 million would take 2 GB."""

MARKS = (None, dropped.DUPLICATE, dropped.REPEAT, dropped.ROBOT, dropped.K_CORE)
"""What a mark means: the reason in the report, None for an event that stays."""
KEPT, DUPLICATE, REPEAT, ROBOT, K_CORE = range(len(MARKS))


@dataclass(frozen=True)
class CleaningRules:
    """`robot_events_per_minute` 0 and `k_core` 1 switch these off; see HistoryRules for repeats."""

    history: HistoryRules
    robot_events_per_minute: int
    k_core: int


def mark_dropped(histories: Histories, rules: CleaningRules, progress: Progress) -> NDArray[np.uint8]:
    """The mark of each event (an index into MARKS), uint8 [events]; expects histories in time order."""
    marks = np.zeros(histories.num_events, dtype=np.uint8)
    for block, start, end in blocks(histories):
        marks[start:end] = _repeats(block, rules.history)
        if rules.robot_events_per_minute:
            kept = select(block, marks[start:end] == KEPT)
            robots = find_robots(kept, rules.robot_events_per_minute)
            events_of_robots = np.repeat(robots, block.lengths)
            marks[start:end][events_of_robots & (marks[start:end] == KEPT)] = ROBOT
        progress("cleaning", end)
    if rules.k_core > 1:
        outside = ~in_k_core(histories, marks == KEPT, rules.k_core)
        marks[outside & (marks == KEPT)] = K_CORE
    return marks


def blocks(histories: Histories, block_events: int = BLOCK_EVENTS) -> Iterator[tuple[Histories, int, int]]:
    """Consecutive users of about `block_events` events together, with their first and end event."""
    offsets = histories.offsets
    wanted = np.arange(0, histories.num_events, block_events)
    bounds = np.unique(np.append(np.searchsorted(offsets, wanted), histories.num_users))
    for first, last in pairwise(bounds.tolist()):
        start, end = int(offsets[first]), int(offsets[last])
        events = slice(start, end)
        block = Histories(
            histories.item[events],
            histories.action[events],
            histories.time[events],
            offsets[first : last + 1] - start,
        )
        yield block, start, end


def _repeats(block: Histories, rules: HistoryRules) -> NDArray[np.uint8]:
    """DUPLICATE at the same instant as the event it repeats, REPEAT within `repeat_ms`, else KEPT."""
    marks = np.zeros(block.num_events, dtype=np.uint8)
    if rules.repeat_ms < 0:
        return marks
    since = time_since_same(block)
    marks[(since > 0) & (since <= rules.repeat_ms)] = REPEAT
    marks[since == 0] = DUPLICATE
    return marks


def find_robots(histories: Histories, events_per_minute: int) -> NDArray[np.bool_]:
    """Users with more than that many events within some minute, bool [users]."""
    user = np.repeat(np.arange(histories.num_users), histories.lengths)
    ahead = slice(events_per_minute, None)
    behind = slice(None, max(histories.num_events - events_per_minute, 0))
    crowded = (user[ahead] == user[behind]) & (histories.time[ahead] - histories.time[behind] < MINUTE_MS)
    robots = np.zeros(histories.num_users, dtype=bool)
    robots[user[ahead][crowded]] = True
    return robots


def in_k_core(histories: Histories, keep: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """The largest part of the kept events where every user and every item has at least k; bool [events]."""
    at = np.flatnonzero(keep)
    user = np.repeat(np.arange(histories.num_users, dtype=np.int32), histories.lengths)[at]
    item = histories.item[at]
    while len(at):
        enough = (np.bincount(user) >= k)[user] & (np.bincount(item) >= k)[item]
        if enough.all():
            break
        at, user, item = at[enough], user[enough], item[enough]
    inside = np.zeros(histories.num_events, dtype=bool)
    inside[at] = True
    return inside
