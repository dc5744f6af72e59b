"""Histories: a user's events, oldest first, packed. The one home of cleaning, truncation and time gaps.

Training and serving both call these functions, so the same raw events give byte-equal model inputs offline
and online; all of them work on one history or on millions, with no Python loop over users.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from footfall.contract import (
    DEFAULT_ACTION,
    FIRST_INDEX,
    NUM_GAPS,
    PADDING_INDEX,
    TIME_ORIGIN_S,
    UNKNOWN_TIME,
)
from footfall.events import canonical_action
from footfall.vocabulary import Vocabulary

MS_PER_SECOND = 1000


@dataclass(frozen=True)
class Histories:
    """Packed histories: user u owns the events offsets[u]:offsets[u + 1], oldest first.

    item int32 [events], action uint8 [events], time int64 [events] (epoch ms or UNKNOWN_TIME),
    offsets int64 [users + 1].
    """

    item: NDArray[np.int32]
    action: NDArray[np.uint8]
    time: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_events(self) -> int:
        return len(self.item)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events of each user, int64 [users]."""
        return np.diff(self.offsets)

    def take(self, positions: NDArray[np.int64], offsets: NDArray[np.int64]) -> "Histories":
        """The events at `positions`, regrouped by `offsets`."""
        return Histories(self.item[positions], self.action[positions], self.time[positions], offsets)


@dataclass(frozen=True)
class HistoryRules:
    """What counts as a repeat: the same (item, action) again within `repeat_ms`.

    0 drops only what happened at the same instant, -1 nothing.
    """

    repeat_ms: int


@dataclass(frozen=True)
class ModelInput:
    """What a model reads, packed: item, action, gap and time int32 [events], offsets int64 [users + 1].

    gap is a bucket (see time_gaps), time in seconds (see seconds).
    """

    item: NDArray[np.int32]
    action: NDArray[np.int32]
    gap: NDArray[np.int32]
    time: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, columns: Iterable[NDArray[np.int32]], offsets: NDArray[np.int64]) -> "ModelInput":
        """`columns` as the property of that name."""
        item, action, gap, time = columns
        return cls(item, action, gap, time, offsets)

    @property
    def columns(self) -> tuple[NDArray[np.int32], ...]:
        """In the order of contract.HISTORY_COLUMNS."""
        return self.item, self.action, self.gap, self.time


@dataclass(frozen=True)
class Encoded:
    """One user's events as indices, and how many were dropped because the vocabulary does not know them."""

    histories: Histories
    unknown_items: int
    unknown_actions: int


def encode(
    item_ids: Sequence[bytes],
    actions: Sequence[bytes],
    times: NDArray[np.int64],
    items: Vocabulary,
    action_names: Vocabulary,
) -> Encoded:
    """Map one user's raw events to indices; events of an unknown item or action are dropped and counted.

    An empty action is DEFAULT_ACTION, or where the log had none of these its first action in funnel order.
    """
    item = items.indices(item_ids)
    action = action_names.indices([canonical_action(name.decode()).encode() for name in actions])
    default = action_names.index(DEFAULT_ACTION.encode()) or FIRST_INDEX
    action = np.where([not name for name in actions], default, action)
    known_item = item != PADDING_INDEX
    known = known_item & (action != PADDING_INDEX)
    histories = Histories(
        item[known],
        action[known].astype(np.uint8),
        np.asarray(times, dtype=np.int64)[known],
        np.array([0, known.sum()], dtype=np.int64),
    )
    unknown_items = int(len(item) - known_item.sum())
    return Encoded(histories, unknown_items, int(len(item) - known.sum()) - unknown_items)


def clean(histories: Histories, rules: HistoryRules) -> Histories:
    """Put events in time order and keep one of every run of repeats. Idempotent."""
    ordered = sort_by_time(histories)
    if rules.repeat_ms < 0:
        return ordered
    since = time_since_same(ordered)
    return select(ordered, (since < 0) | (since > rules.repeat_ms))


def model_input(histories: Histories, max_length: int) -> ModelInput:
    """The newest `max_length` events of every history, ready for a model."""
    return as_model_input(newest(histories, max_length))


def as_model_input(histories: Histories) -> ModelInput:
    """All events of every history, with their time gaps and seconds."""
    action = histories.action.astype(np.int32)
    return ModelInput(histories.item, action, time_gaps(histories), seconds(histories), histories.offsets)


def sort_by_time(histories: Histories) -> Histories:
    """Order each history by time; ties keep their order, and so does a history with any unknown time."""
    user, time = _user_of_event(histories), _trusted_time(histories)
    if not np.any((time[1:] < time[:-1]) & (user[1:] == user[:-1])):
        return histories
    return histories.take(np.lexsort((time, user)), histories.offsets)


def time_since_same(histories: Histories) -> NDArray[np.int64]:
    """Milliseconds since the user's previous event of the same item and action, int64 [events].

    -1 where there is none, and throughout a history with any unknown time. Expects histories in time order.
    The previous event counts whether or not it is itself a repeat, so a burst of any length is one run.
    """
    if histories.num_events == 0:
        return np.zeros(0, dtype=np.int64)
    num_items = int(histories.item.max()) + 1
    key = (_user_of_event(histories) * num_items + histories.item) * 256 + histories.action
    order = np.argsort(key, kind="stable")
    key, time = key[order], _trusted_time(histories)[order]
    same = (key[1:] == key[:-1]) & (time[1:] != UNKNOWN_TIME) & (time[:-1] != UNKNOWN_TIME)
    since = np.full(histories.num_events, -1, dtype=np.int64)
    since[order[1:]] = np.where(same, time[1:] - time[:-1], -1)
    return since


def select(histories: Histories, keep: NDArray[np.bool_]) -> Histories:
    """Only the events where `keep` (bool [events]) holds; users stay, if need be with an empty history."""
    if keep.all():
        return histories
    kept_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
    return histories.take(np.flatnonzero(keep), kept_before[histories.offsets])


def newest(histories: Histories, max_length: int) -> Histories:
    """The newest `max_length` events of every history."""
    end = histories.offsets[1:]
    start = np.maximum(histories.offsets[:-1], end - max_length)
    return slices(histories, start, end)


def slices(histories: Histories, start: NDArray[np.int64], end: NDArray[np.int64]) -> Histories:
    """Repack the event ranges start[i]:end[i] (int64 [ranges]) as one history each."""
    lengths = end - start
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    positions = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)
    return histories.take(positions, offsets)


def time_gaps(histories: Histories) -> NDArray[np.int32]:
    """Bucket of the time since the history's previous event, int32 [events].

    Bucket 0: first event, or a time is unknown. Otherwise 1 + the bit length of the gap in whole seconds,
    at most NUM_GAPS - 1: integer arithmetic, so every machine agrees.
    """
    gaps = np.zeros(histories.num_events, dtype=np.int32)
    if histories.num_events < 2:
        return gaps
    time = histories.time
    seconds = np.maximum(time[1:] - time[:-1], 0) // MS_PER_SECOND
    bit_length = np.frexp(seconds.astype(np.float64))[1]
    known = (time[1:] != UNKNOWN_TIME) & (time[:-1] != UNKNOWN_TIME)
    gaps[1:] = np.where(known, np.minimum(1 + bit_length, NUM_GAPS - 1), 0)
    first = histories.offsets[:-1]
    gaps[first[first < histories.num_events]] = 0
    return gaps


def seconds(histories: Histories) -> NDArray[np.int32]:
    """Whole seconds since TIME_ORIGIN_S of every event, int32 [events], cut to what an int32 holds.

    An event of unknown time counts as simultaneous with the one before it, and before the first known time with that
    one; a history without any known time is 0 throughout.
    """
    known = histories.time != UNKNOWN_TIME
    whole = np.clip(histories.time // MS_PER_SECOND - TIME_ORIGIN_S, -(2**31), 2**31 - 1).astype(np.int32)
    if known.all():
        return whole
    place, user = np.arange(len(known)), _user_of_event(histories)
    last_known = np.maximum.accumulate(np.where(known, place, -1))
    next_known = np.minimum.accumulate(np.where(known, place, len(known))[::-1])[::-1]
    before = (last_known >= 0) & (user[last_known] == user)
    source = np.where(before, last_known, np.minimum(next_known, len(known) - 1))
    return np.where(known[source] & (user[source] == user), whole[source], np.int32(0))


def pad(values: NDArray[np.int32], offsets: NDArray[np.int64], width: int) -> NDArray[np.int32]:
    """Unpack to int32 [users, width], each row filled from the left, PADDING_INDEX behind."""
    lengths = np.diff(offsets)
    padded = np.full((len(lengths), width), PADDING_INDEX, dtype=np.int32)
    padded[np.arange(width) < lengths[:, None]] = values
    return padded


def bucket_width(longest: int) -> int:
    """The power of two that a batch whose longest row is `longest` is padded to."""
    return 1 << max(longest - 1, 0).bit_length()


def _user_of_event(histories: Histories) -> NDArray[np.int64]:
    return np.repeat(np.arange(histories.num_users, dtype=np.int64), histories.lengths)


def _trusted_time(histories: Histories) -> NDArray[np.int64]:
    """Times, all UNKNOWN_TIME in a history where any is: its order cannot be checked, so it is left alone."""
    unknown = histories.time == UNKNOWN_TIME
    if not unknown.any():
        return histories.time
    user = _user_of_event(histories)
    distrusted = np.zeros(histories.num_users, dtype=bool)
    distrusted[user[unknown]] = True
    return np.where(distrusted[user], UNKNOWN_TIME, histories.time)
