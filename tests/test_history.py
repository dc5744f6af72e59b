"""Cleaning, truncation and time gaps, on packed histories."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.contract import NUM_GAPS, UNKNOWN_TIME
from footfall.encoding import encode
from footfall.history import (
    Histories,
    HistoryRules,
    as_model_input,
    bucket_width,
    clean,
    model_input,
    newest,
    pad,
    seconds,
    sort_by_time,
    time_gaps,
)
from footfall.vocabulary import Vocabulary

RULES = HistoryRules(repeat_ms=5_000)


def pack(*users: list[tuple[int, int, int]]) -> Histories:
    """One list of (item, action, time) a user."""
    events = np.array([event for user in users for event in user], dtype=np.int64).reshape(-1, 3)
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64)
    return Histories(events[:, 0].astype(np.int32), events[:, 1].astype(np.uint8), events[:, 2], offsets)


def rows(histories: Histories) -> list[list[tuple[int, int, int]]]:
    columns = zip(histories.item.tolist(), histories.action.tolist(), histories.time.tolist(), strict=True)
    events = list(columns)
    bounds = histories.offsets.tolist()
    return [events[start:end] for start, end in pairwise(bounds)]


def clean_slowly(user: list[tuple[int, int, int]], repeat_ms: int) -> list[tuple[int, int, int]]:
    """The same rules, one event at a time."""
    if any(time == UNKNOWN_TIME for _, _, time in user):
        return user
    last: dict[tuple[int, int], int] = {}
    kept = []
    for item, action, time in sorted(user, key=lambda event: event[2]):
        before = last.get((item, action))
        last[item, action] = time
        if before is None or time - before > repeat_ms:
            kept.append((item, action, time))
    return kept


event = st.tuples(
    st.integers(1, 3), st.integers(1, 2), st.sampled_from([UNKNOWN_TIME, 0, 1, 2_000, 4_000, 9_000])
)
users = st.lists(st.lists(event, max_size=12), min_size=1, max_size=5)


@given(users=users, repeat_ms=st.sampled_from([0, 1_999, 5_000]))
def test_cleaning_packed_histories_equals_cleaning_each_user_event_by_event(
    users: list[list[tuple[int, int, int]]], repeat_ms: int
) -> None:
    cleaned = clean(pack(*users), HistoryRules(repeat_ms))
    assert rows(cleaned) == [clean_slowly(user, repeat_ms) for user in users]


@given(users=users)
def test_cleaning_twice_changes_nothing(users: list[list[tuple[int, int, int]]]) -> None:
    once = clean(pack(*users), RULES)
    assert rows(clean(once, RULES)) == rows(once)


def test_a_negative_window_keeps_every_repeat() -> None:
    burst = [(1, 1, 1_000)] * 3
    assert rows(clean(pack(burst), HistoryRules(repeat_ms=-1))) == [burst]


def test_a_burst_of_repeats_is_one_event() -> None:
    burst = [(7, 1, 1_000 + 4_000 * step) for step in range(10)]
    assert rows(clean(pack(burst), RULES)) == [[(7, 1, 1_000)]]


def test_sorting_is_stable_and_leaves_a_history_with_an_unknown_time_alone() -> None:
    tied = [(1, 1, 5), (2, 1, 5), (3, 1, 4)]
    partly_unknown = [(1, 1, 9), (2, 1, UNKNOWN_TIME), (3, 1, 4)]
    assert rows(sort_by_time(pack(tied, partly_unknown))) == [[tied[2], tied[0], tied[1]], partly_unknown]


def test_the_time_0_is_a_time_like_any_other() -> None:
    histories = pack([(1, 1, 6_000), (1, 1, 0), (2, 1, 4_000), (1, 1, 2_000)])
    assert rows(clean(histories, RULES)) == [[(1, 1, 0), (2, 1, 4_000)]]
    assert time_gaps(pack([(1, 1, 0), (2, 1, 4_000)])).tolist() == [0, 4]
    assert seconds(pack([(1, 1, 0), (2, 1, 4_000)])).tolist() == [0, 4]
    assert model_input(pack([(1, 1, 0)]), np.array([0]), max_length=1).wait.tolist() == [1]


def test_newest_keeps_the_end_of_each_history_and_empty_histories() -> None:
    long = [(item, 1, item) for item in range(1, 6)]
    assert rows(newest(pack(long, [], long[:1]), 2)) == [long[3:], [], long[:1]]


def test_gap_buckets_are_bit_lengths_of_whole_seconds() -> None:
    times = [1_000, 1_999, 2_999, 4_999, 8_999, 8_999 + 2**60]
    gaps = time_gaps(pack([(1, 1, time) for time in times], [(1, 1, 5), (1, 1, UNKNOWN_TIME)]))
    assert gaps.tolist() == [0, 1, 2, 3, 4, NUM_GAPS - 1, 0, 0]


def test_gaps_do_not_cross_users_even_around_empty_histories() -> None:
    gaps = time_gaps(pack([], [(1, 1, 1_000)], [], [(2, 1, 9_000)], []))
    assert gaps.tolist() == [0, 0]


def test_the_first_kept_event_of_a_truncated_history_has_no_gap() -> None:
    histories = pack([(1, 1, 1_000), (2, 1, 2_000), (3, 1, 4_000)])
    inputs = model_input(histories, np.array([4_000]), max_length=2)
    assert inputs.item.tolist() == [2, 3]
    assert inputs.gap.tolist() == [0, 3]
    assert inputs.time.tolist() == [0, 2]


def test_an_event_waits_for_the_next_one_and_the_last_for_the_request() -> None:
    histories = pack([(1, 1, 1_000), (2, 1, 2_000), (3, 1, 4_000)], [], [(1, 1, 500)])
    inputs = as_model_input(histories, np.array([12_000, 7, 9_499]))
    assert inputs.gap.tolist() == [0, 2, 3, 0]
    assert inputs.wait.tolist() == [2, 3, 5, 5]
    assert inputs.time.tolist() == [0, 1, 3, 0]
    assert inputs.next_time.tolist() == [1, 3, 11, 9]


@pytest.mark.parametrize("now", [3_999, -(2**62), 4_000])
def test_a_request_before_the_last_event_counts_as_at_it(now: int) -> None:
    inputs = as_model_input(pack([(1, 1, 1_000), (2, 1, 4_000)]), np.array([now]))
    assert inputs.wait.tolist() == [3, 1]
    assert inputs.next_time.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("last", "now"), [(UNKNOWN_TIME, 9_000), (4_000, UNKNOWN_TIME), (UNKNOWN_TIME, UNKNOWN_TIME)]
)
def test_a_wait_between_times_that_nobody_knows_is_unknown(last: int, now: int) -> None:
    inputs = as_model_input(pack([(1, 1, 1_000), (2, 1, last)]), np.array([now]))
    assert inputs.wait[-1] == 0
    assert inputs.next_time[-1] == inputs.time[-1]


times_of_a_history = st.lists(
    st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), st.just(UNKNOWN_TIME), st.integers(0, 10**12)),
    min_size=2,
    max_size=9,
)


@given(times=times_of_a_history)
def test_a_history_asked_about_at_its_next_event_is_the_longer_one_without_it(times: list[int]) -> None:
    longer = as_model_input(pack([(1, 1, time) for time in times]), np.array([5]))
    shorter = as_model_input(pack([(1, 1, time) for time in times[:-1]]), np.array(times[-1:]))
    assert shorter.wait.tolist() == longer.wait[:-1].tolist()
    for before, after in ((longer.time, longer.next_time), (shorter.time, shorter.next_time)):
        assert 0 <= min(*before, *after) <= max(*before, *after) < 2**31
    if UNKNOWN_TIME not in times and times == sorted(times):
        assert shorter.time.tolist() == longer.time[:-1].tolist()
        assert shorter.next_time.tolist() == longer.next_time[:-1].tolist()


def test_seconds_count_from_the_first_known_time_and_unknown_times_are_those_of_the_neighbour() -> None:
    origin = 1_000_000_000_000
    known = [(1, 1, origin + 1_999), (1, 1, UNKNOWN_TIME), (1, 1, origin + 5_000), (1, 1, UNKNOWN_TIME)]
    late = [(1, 1, UNKNOWN_TIME), (1, 1, origin - 3_000), (1, 1, origin)]
    histories = pack(known, [(1, 1, UNKNOWN_TIME)], late, [], [(1, 1, -(2**62)), (1, 1, 2**62)])
    assert seconds(histories).tolist() == [0, 0, 4, 4, 0, 0, 0, 3, 0, 2**31 - 1]
    assert seconds(pack([], [])).tolist() == []


def test_times_as_far_apart_as_64_bits_allow_are_a_long_gap_and_no_repeat() -> None:
    histories = pack([(1, 1, UNKNOWN_TIME + 1), (1, 1, 2**63 - 1)])
    assert time_gaps(histories).tolist() == [0, NUM_GAPS - 1]
    assert rows(clean(histories, RULES)) == rows(histories)


def test_encoding_drops_and_counts_what_the_vocabulary_does_not_know() -> None:
    encoded = encode(
        [b"a", b"nope", b"b", b"a"],
        [b"pv", b"view", b"juggle", b"VIEW"],
        np.array([1, 2, 3, 4]),
        np.array([0, 2, 2, 4]),
        Vocabulary.from_ids(["a", "b"]),
        Vocabulary.from_ids(["view"]),
    )
    assert encoded.item.tolist() == [1, 0, 2, 1]
    assert (encoded.unknown_items.tolist(), encoded.unknown_actions.tolist()) == ([1, 0, 0], [0, 0, 1])
    assert rows(encoded.histories) == [[(1, 1, 1)], [], [(1, 1, 4)]]


@pytest.mark.parametrize(
    ("actions", "default"), [(["view", "cart"], 1), (["cart", "view"], 2), (["cart", "purchase"], 1)]
)
def test_an_empty_action_is_a_view_or_the_first_action_of_a_log_without_views(
    actions: list[str], default: int
) -> None:
    items, names = Vocabulary.from_ids(["a"]), Vocabulary.from_ids(actions)
    encoded = encode([b"a"], [b""], np.array([1]), np.array([0, 1]), items, names)
    assert rows(encoded.histories) == [[(1, default, 1)]]


def test_padding_fills_rows_from_the_left() -> None:
    padded = pad(np.array([1, 2, 3], dtype=np.int32), np.array([0, 2, 2, 3]), width=2)
    assert padded.tolist() == [[1, 2], [0, 0], [3, 0]]


def test_bucket_widths_are_powers_of_two() -> None:
    assert [bucket_width(length) for length in (0, 1, 2, 3, 4, 5, 200)] == [1, 1, 2, 4, 4, 8, 256]
