"""Requests: what is refused with which sentence, and what the rest becomes."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footfall.contract import (
    CANDIDATE_INDEX,
    EXCLUDED_INDEX,
    HISTORY_COLUMNS,
    MAX_CANDIDATES,
    MAX_EVENTS_READ,
    PADDING_INDEX,
    UNKNOWN_INDEX,
    UNKNOWN_TIME,
)
from footfall.errors import InputError
from footfall_engines.batch import NOBODY, Row, join, padded, split
from footfall_engines.repository import Repository
from footfall_engines.version import Version
from footfall_serving.request import Request, read_request, to_indices


@pytest.fixture(scope="module")
def version(tiny_repository: Path) -> Version:
    return Repository(tiny_repository).version(1)


def texts(*values: bytes) -> np.ndarray[Any, Any]:
    row = np.empty((1, len(values)), dtype=np.object_)
    row[0, :] = values
    return row


def indexed(request: Request, version: Version) -> Row:
    (row,) = split(to_indices([request], version).batch)
    return row


def tensors(**changes: Any) -> dict[str, Any]:
    return {"item_id": texts(b"I000001", b"I000002"), **changes}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"item_id": None}, "item_id is missing"),
        ({"item_id": np.array([[b"a"], [b"b"]], dtype=object)}, r"shape \[2, 1\]: a request is of one user"),
        ({"action": texts(b"view")}, "action has 1 entries and item_id 2"),
        ({"timestamp": np.zeros((1, 3), np.int64)}, "timestamp has 3 entries and item_id 2"),
        (
            {"timestamp": np.array([[5, -1]])},
            "timestamp holds -1, expected epoch milliseconds: that is before 1970",
        ),
        (
            {"timestamp": np.array([[1_700_000_000, 1_700_003_600]])},
            "in milliseconds that is 1970-01-20T16:13:20Z, in seconds 2023-11-14T22:13:20Z",
        ),
        ({"timestamp": np.array([[5, 1_700_000_000_000_000]])}, "may be micro- or nanoseconds"),
        ({"now": np.array([[-7]])}, "now holds -7, expected epoch milliseconds: that is before 1970"),
        ({"top_k": np.array([[-3]])}, "top_k is -3, this version takes 1 to 100"),
        ({"top_k": np.array([[0]])}, "top_k is 0"),
        ({"top_k": np.array([[101]])}, "top_k is 101"),
        ({"item_id": texts(b"x" * 1_000_000)}, "has 1000000 bytes, at most 512"),
        (
            {"item_id": texts(b"good", b"b\xffd")},
            "item_id number 1 is not UTF-8: invalid start byte at byte 1",
        ),
        ({"action": texts(b"view", b"\xff")}, "action number 1 is not UTF-8"),
        ({"candidate_id": texts(b"\xff")}, "candidate_id number 0 is not UTF-8"),
        ({"candidate_id": texts(*[b"a"] * (MAX_CANDIDATES + 1))}, "candidate_id has 16385 entries"),
    ],
)
def test_a_malformed_request_is_refused_with_the_value(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_request(tensors(**changes), max_top_k=100)


def test_what_is_left_out_gets_the_contracts_defaults() -> None:
    request = read_request(tensors(), max_top_k=100)
    assert request.actions == [b"", b""]
    assert request.times.tolist() == [UNKNOWN_TIME, UNKNOWN_TIME]
    assert (request.top_k, request.candidates, request.exclude_seen) == (20, None, True)
    assert read_request(tensors(), max_top_k=7).top_k == 7


def test_the_smallest_int64_is_an_unknown_time_and_0_is_1970(version: Version) -> None:
    ids = texts(*version.items.ids([2, 2, 9]))
    known = read_request({"item_id": ids, "timestamp": np.array([[9_000, 0, 4_000]])}, max_top_k=100)
    indices = indexed(known, version)
    assert indices["history_item"].tolist() == [2, 9, 2], "in the order of their times, none taken as unknown"
    assert indices["history_gap"].tolist() == [0, 4, 4], "bit lengths of 4 and 5 seconds, and 1"
    partly = read_request({"item_id": ids, "timestamp": np.array([[9_000, -(2**63), 4_000]])}, max_top_k=100)
    indices = indexed(partly, version)
    assert indices["history_item"].tolist() == [2, 2, 9], "left as they came"
    assert indices["history_gap"].tolist() == [0, 0, 0]


def test_a_request_is_made_now_unless_it_says_when() -> None:
    before = time.time_ns() // 1_000_000
    left_out = read_request(tensors(), max_top_k=100).now
    assert before <= left_out <= time.time_ns() // 1_000_000
    assert read_request(tensors(now=np.array([[0]])), max_top_k=100).now == 0
    assert read_request(tensors(now=np.array([[UNKNOWN_TIME]])), max_top_k=100).now == UNKNOWN_TIME


def test_the_last_event_waits_for_now(version: Version) -> None:
    request = {"item_id": texts(*version.items.ids([3, 4])), "timestamp": np.array([[1_000, 4_000]])}
    waits = []
    for now in (4_000, 9_000, UNKNOWN_TIME):
        indices = indexed(read_request({**request, "now": np.array([[now]])}, 100), version)
        waits.append((indices["history_wait"].tolist(), indices["history_next_time"].tolist()))
    assert waits == [([3, 1], [3, 3]), ([3, 4], [3, 8]), ([3, 0], [3, 3])]


def test_of_a_hundred_thousand_events_the_newest_are_kept(version: Version) -> None:
    ids = version.items.ids(range(1, 101)) * 1000
    request = read_request({"item_id": texts(*ids)}, max_top_k=100)
    assert request.item_ids == ids[-MAX_EVENTS_READ:]
    indices = indexed(request, version)
    assert indices["history_item"].tolist() == list(range(81, 101))
    assert indices["history_length"].tolist() == [20]
    assert indices["excluded_index"].tolist() == list(range(1, 101))


def test_the_oldest_item_of_a_history_longer_than_is_read_stays_out_of_the_answer(version: Version) -> None:
    oldest, newer = version.items.id(7), version.items.ids(range(20, 30))
    request = read_request({"item_id": texts(oldest, *newer * 1000)}, max_top_k=100)
    assert oldest not in request.item_ids
    indices = indexed(request, version)
    assert indices["excluded_index"].tolist() == [7, *range(20, 30)]


def test_an_item_met_by_an_action_nobody_knows_is_seen_all_the_same(version: Version) -> None:
    ids, actions = texts(*version.items.ids([4, 5]), b"nope"), texts(b"juggle", b"view", b"view")
    indices = indexed(read_request({"item_id": ids, "action": actions}, max_top_k=100), version)
    assert indices["history_item"].tolist() == [5]
    assert indices["excluded_index"].tolist() == [4, 5]


def test_more_seen_items_than_an_engine_takes_are_refused_and_not_forgotten(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("footfall_serving.request.MAX_SEEN", 3)
    ids = texts(*version.items.ids(range(1, 5)))
    with pytest.raises(InputError, match="holds 4 items of the catalogue, at most 3 can be kept out"):
        indexed(read_request({"item_id": ids}, max_top_k=100), version)
    kept = {"item_id": ids, "exclude_seen": np.array([[False]])}
    assert indexed(read_request(kept, max_top_k=100), version)["excluded_index"].tolist() == [0]


def test_an_empty_history_and_no_candidates_are_padding_of_length_1(version: Version) -> None:
    indices = indexed(read_request({"item_id": texts()}, max_top_k=100), version)
    for tensor in (*HISTORY_COLUMNS, EXCLUDED_INDEX, CANDIDATE_INDEX):
        assert indices[tensor.name].tolist() == [PADDING_INDEX]
    assert indices["history_length"].tolist() == [0]


def test_unknown_items_and_actions_are_dropped_and_counted(version: Version) -> None:
    known = version.items.id(3)
    request = read_request(
        {"item_id": texts(b"nope", known, known), "action": texts(b"view", b"juggle", b"pv")}, max_top_k=100
    )
    found = to_indices([request], version)
    assert (found.unknown_items, found.unknown_actions) == (1, 1)
    assert found.batch.history.item.tolist() == [3]


def test_requests_together_become_what_each_becomes_alone(version: Version) -> None:
    known = version.items.ids(range(1, 40))
    times = 1_700_000_000_000 + np.array([[5_000, 1_000, 1_000, 9_000, 7_000, 7_100]])
    asked = [
        {"item_id": texts(*known[:6]), "timestamp": times, "action": texts(*[b"pv", b"", b"cart"] * 2)},
        {"item_id": texts()},
        {"item_id": texts(b"nope", known[3], known[3]), "action": texts(b"view", b"juggle", b"pv")},
        {"item_id": texts(*known), "exclude_seen": np.array([[False]])},
        {"item_id": texts(b"nope"), "candidate_id": texts(known[0], b"nope"), "user_id": texts(b"ann")},
        {"item_id": texts(*known[:2] * (MAX_EVENTS_READ // 2), known[8], known[5])},
    ]
    now = {"now": np.array([[1_700_000_100_000]])}
    requests = [read_request(tensors | now, max_top_k=100) for tensors in asked]
    together, alone = to_indices(requests, version), [to_indices([request], version) for request in requests]
    assert together.unknown_items == sum(one.unknown_items for one in alone) == 2
    assert together.unknown_actions == sum(one.unknown_actions for one in alone) == 1
    assert together.batch.users == (*[NOBODY] * 4, b"ann", NOBODY)
    rows = split(together.batch)
    for row, one in zip(rows, alone, strict=True):
        (expected,) = split(one.batch)
        for name, values in expected.items():
            np.testing.assert_array_equal(row[name], values)
            assert row[name].dtype == values.dtype == np.int32
    again = split(join(rows, together.batch.users, version))
    for row, expected in zip(again, rows, strict=True):
        assert row.keys() == expected.keys()
        for name, values in row.items():
            np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize(("candidates", "expected"), [((b"nope",), [UNKNOWN_INDEX]), ((), [UNKNOWN_INDEX])])
def test_candidates_nobody_knows_stay_a_restriction(
    version: Version, candidates: tuple[bytes, ...], expected: list[int]
) -> None:
    request = read_request(tensors(candidate_id=texts(*candidates)), max_top_k=100)
    assert indexed(request, version)["candidate_index"].tolist() == expected


@pytest.mark.parametrize(
    ("user", "sentence"), [(b"u" * 513, "user_id number 0 has 513"), (b"\xff", "not UTF-8")]
)
def test_a_user_id_is_held_to_the_rules_of_ids(user: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_request({"item_id": texts(b"a"), "user_id": texts(user)}, max_top_k=100)


def test_seen_items_are_excluded_only_where_asked(version: Version) -> None:
    ids = texts(*version.items.ids([2, 9, 2]))
    kept = read_request({"item_id": ids, "exclude_seen": np.array([[False]])}, max_top_k=100)
    assert indexed(kept, version)["excluded_index"].tolist() == [PADDING_INDEX]
    excluded = read_request({"item_id": ids}, max_top_k=100)
    assert indexed(excluded, version)["excluded_index"].tolist() == [2, 9]


def test_padding_makes_every_list_a_power_of_two_but_never_longer_than_the_model_takes(
    version: Version,
) -> None:
    ids = texts(*version.items.ids(range(1, 19)))
    indices = indexed(read_request({"item_id": ids}, max_top_k=100), version)
    widths = {name: len(values) for name, values in padded(indices, version.max_length).items()}
    assert widths == {
        "history_item": 20,
        "history_action": 20,
        "history_gap": 20,
        "history_wait": 20,
        "history_time": 20,
        "history_next_time": 20,
        "history_length": 1,
        "excluded_index": 32,
        "candidate_index": 1,
    }
