"""Histories: a user's events, oldest first, packed. The one home of cleaning, truncation and time gaps.

Training and serving both call these functions, so the same raw events give byte-equal model inputs offline
and online; all of them work on one history or on millions, with no Python loop over users.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from footfall.contract import NUM_GAPS, PADDING_INDEX, UNKNOWN_TIME
from footfall.packed import offsets_of, ranges

MS_PER_SECOND = 1000
LAST_SECOND = 2**31 - 1
"""Of a history: 68 years after its first known time; whatever is later counts as then."""


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
        # np.diff takes twice as long of few.
        lengths: NDArray[np.int64] = self.offsets[1:] - self.offsets[:-1]
        return lengths

    def take(self, positions: NDArray[np.int64], offsets: NDArray[np.int64]) -> "Histories":
        """The events at `positions`, regrouped by `offsets`."""
        return Histories(self.item[positions], self.action[positions], self.time[positions], offsets)


@dataclass(frozen=True)
class Asked:
    """Histories, and when each is asked about: now int64 [users], epoch ms, UNKNOWN_TIME where nobody knows."""

    histories: Histories
    now: NDArray[np.int64]


@dataclass(frozen=True)
class HistoryRules:
    """What counts as a repeat: the same (item, action) again within `repeat_ms`.

    0 drops only what happened at the same instant, -1 nothing.
    """

    repeat_ms: int


@dataclass(frozen=True)
class ModelInput:
    """What a model reads, packed: all but offsets int32 [events], offsets int64 [users + 1].

    gap is the bucket (see time_gaps) of the time since the event before, wait of that until the next one; time and
    next_time are the seconds (see seconds) of the event and of the next one. A history's last event waits for the
    request: next comes `now`.
    """

    item: NDArray[np.int32]
    action: NDArray[np.int32]
    gap: NDArray[np.int32]
    wait: NDArray[np.int32]
    time: NDArray[np.int32]
    next_time: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, columns: Iterable[NDArray[np.int32]], offsets: NDArray[np.int64]) -> "ModelInput":
        """`columns` as the property of that name."""
        item, action, gap, wait, time, next_time = columns
        return cls(item, action, gap, wait, time, next_time, offsets)

    @property
    def columns(self) -> tuple[NDArray[np.int32], ...]:
        """In the order of contract.HISTORY_COLUMNS."""
        return self.item, self.action, self.gap, self.wait, self.time, self.next_time


def clean(histories: Histories, rules: HistoryRules) -> Histories:
    """Put events in time order and keep one of every run of repeats. Idempotent."""
    ordered = sort_by_time(histories)
    if rules.repeat_ms < 0:
        return ordered
    since = time_since_same(ordered)
    return select(ordered, (since < 0) | (since > rules.repeat_ms))


def model_input(histories: Histories, now: NDArray[np.int64], max_length: int) -> ModelInput:
    """The newest `max_length` events of every history, ready for a model; now as in as_model_input."""
    return as_model_input(newest(histories, max_length), now)


def as_model_input(histories: Histories, now: NDArray[np.int64]) -> ModelInput:
    """All events of every history, with their times.

    now int64 [users]: when each history is asked about, epoch ms; UNKNOWN_TIME where nobody knows. One before the
    last event counts as at it: clocks differ.
    """
    action = histories.action.astype(np.int32)
    gap, time = time_gaps(histories), seconds(histories)
    has_events = histories.lengths > 0
    last, now = histories.offsets[1:][has_events] - 1, now[has_events]
    wait, next_time = _of_the_next(gap), _of_the_next(time)
    last_time, last_second = histories.time[last], time[last]
    wait[last] = _gap_buckets(last_time, now)
    known = (last_time != UNKNOWN_TIME) & (now != UNKNOWN_TIME)
    since = np.maximum(now // MS_PER_SECOND - last_time // MS_PER_SECOND, 0)
    next_time[last] = np.where(known, np.minimum(last_second + since, LAST_SECOND), last_second)
    return ModelInput(histories.item, action, gap, wait, time, next_time, histories.offsets)


def _of_the_next(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """Of each event that of the one behind it; the last one's means nothing."""
    following = np.empty_like(values)
    following[:-1] = values[1:]
    return following


def sort_by_time(histories: Histories) -> Histories:
    """Order each history by time; ties keep their order, and so does a history with any unknown time."""
    user, time = _user_of_event(histories), _trusted_time(histories)
    if not ((time[1:] < time[:-1]) & (user[1:] == user[:-1])).any():
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
    since[order[1:]] = np.where(same, _apart(time[:-1], time[1:]), -1)
    return since


def select(histories: Histories, keep: NDArray[np.bool_]) -> Histories:
    """Only the events where `keep` (bool [events]) holds; users stay, if need be with an empty history."""
    if keep.all():
        return histories
    kept_before = offsets_of(keep)
    return histories.take(np.flatnonzero(keep), kept_before[histories.offsets])


def newest(histories: Histories, max_length: int) -> Histories:
    """The newest `max_length` events of every history."""
    if not (histories.lengths > max_length).any():
        return histories
    end = histories.offsets[1:]
    start = np.maximum(histories.offsets[:-1], end - max_length)
    return slices(histories, start, end)


def slices(histories: Histories, start: NDArray[np.int64], end: NDArray[np.int64]) -> Histories:
    """Repack the event ranges start[i]:end[i] (int64 [ranges]) as one history each."""
    return histories.take(*ranges(start, end))


def time_gaps(histories: Histories) -> NDArray[np.int32]:
    """Bucket of the time since the history's previous event, int32 [events].

    Bucket 0: first event, or a time is unknown. Otherwise 1 + the bit length of the gap in whole seconds,
    at most NUM_GAPS - 1: integer arithmetic, so every machine agrees.
    """
    gaps = np.zeros(histories.num_events, dtype=np.int32)
    gaps[1:] = _gap_buckets(histories.time[:-1], histories.time[1:])
    first = histories.offsets[:-1]
    gaps[first[first < histories.num_events]] = 0
    return gaps


def _gap_buckets(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int32]:
    """Of times in epoch ms; 0 where one is unknown, 1 where `after` is not after `before`."""
    bit_length = np.frexp((np.maximum(_apart(before, after), 0) // MS_PER_SECOND).astype(np.float64))[1]
    known = (before != UNKNOWN_TIME) & (after != UNKNOWN_TIME)
    return np.where(known, np.minimum(1 + bit_length, NUM_GAPS - 1), 0).astype(np.int32)


def _apart(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """after - before, of any int64: 146 million years at most."""
    # Of few times np.clip takes longer than its two halves.
    after, before = (np.minimum(np.maximum(times, -(2**62)), 2**62 - 1) for times in (after, before))
    apart: NDArray[np.int64] = after - before
    return apart


def seconds(histories: Histories) -> NDArray[np.int32]:
    """Whole seconds of every event since the history's first known time, int32 [events] in 0..LAST_SECOND.

    So no two are further apart than an int32 can say. An event of unknown time counts as simultaneous with the one
    before it, and before the first known time with that one; a history without any known time is 0 throughout.
    """
    known = histories.time != UNKNOWN_TIME
    whole = histories.time // MS_PER_SECOND
    if not known.all():
        user = _user_of_event(histories)
        place = np.arange(len(known))
        last_known = np.maximum.accumulate(np.where(known, place, -1))
        next_known = np.minimum.accumulate(np.where(known, place, len(known))[::-1])[::-1]
        before = (last_known >= 0) & (user[last_known] == user)
        whole = whole[np.where(before, last_known, np.minimum(next_known, len(known) - 1))]
    if not len(known):
        return whole.astype(np.int32)
    first = whole[np.minimum(histories.offsets[:-1], len(known) - 1)]
    since: NDArray[np.int64] = np.minimum(np.maximum(whole - first.repeat(histories.lengths), 0), LAST_SECOND)
    return since.astype(np.int32)


def pad(values: NDArray[np.int32], offsets: NDArray[np.int64], width: int) -> NDArray[np.int32]:
    """Unpack to int32 [users, width], each row filled from the left, PADDING_INDEX behind."""
    return pad_all([values], offsets, width)[0]


def pad_all(
    columns: Sequence[NDArray[np.int32]], offsets: NDArray[np.int64], width: int
) -> list[NDArray[np.int32]]:
    """`pad` of several that are packed alike; of rows that are full, no copy."""
    lengths = offsets[1:] - offsets[:-1]
    shape = len(lengths), width
    if offsets[-1] == len(lengths) * width:
        return [values.reshape(shape) for values in columns]
    place = (np.arange(width) < lengths[:, None]).ravel().nonzero()[0]
    padded = np.full((len(columns), len(lengths) * width), PADDING_INDEX, dtype=np.int32)
    for row, values in zip(padded, columns, strict=True):
        row[place] = values
    return [row.reshape(shape) for row in padded]


def longest(offsets: NDArray[np.int64]) -> int:
    """Of packed lists that of the longest one."""
    return int((offsets[1:] - offsets[:-1]).max(initial=0))


def bucket_width(length: int) -> int:
    """The power of two that a batch whose longest row is of that length is padded to."""
    return 1 << max(length - 1, 0).bit_length()


def _user_of_event(histories: Histories) -> NDArray[np.int64]:
    return np.arange(histories.num_users, dtype=np.int64).repeat(histories.lengths)


def _trusted_time(histories: Histories) -> NDArray[np.int64]:
    """Times, all UNKNOWN_TIME in a history where any is: its order cannot be checked, so it is left alone."""
    unknown = histories.time == UNKNOWN_TIME
    if not unknown.any():
        return histories.time
    user = _user_of_event(histories)
    distrusted = np.zeros(histories.num_users, dtype=bool)
    distrusted[user[unknown]] = True
    return np.where(distrusted[user], UNKNOWN_TIME, histories.time)
