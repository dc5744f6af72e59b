"""Cleaning: what is dropped, why, and that each part of it can be switched off."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.history import Histories, HistoryRules
from footfall_data.cleaning.cleaning import CleaningRules, blocks, find_robots, in_k_core, mark_dropped
from footfall_data.cleaning.dropped import REASONS
from footfall_data.options import PrepareOptions
from footfall_data.prepare import no_progress, prepare

MS = 1_700_000_000_123
OFF = {"repeat_seconds": -1, "robot_events_per_minute": 0, "k_core": 1, "keep_cancellations": True}
Event = tuple[str | None, str | None, str, int | None]


def report_of(events: list[Event], tmp_path: Path, **options: Any) -> dict[str, Any]:
    """The report of a log of (user, item, action, ms after MS) with all cleaning off but `options`."""
    columns = ["user_id", "item_id", "action", "after"]
    log = pl.DataFrame(events, schema=columns, orient="row")
    path = tmp_path / "log.parquet"
    log.select("user_id", "item_id", "action", timestamp=pl.col("after") + MS).write_parquet(path)
    return prepare([path], tmp_path / "out", PrepareOptions(**{**OFF, **options}, overwrite=True))


def dropped(report: dict[str, Any]) -> dict[str, int]:
    return {reason: facts["rows"] for reason, facts in report["dropped"].items() if facts["rows"]}


def rows(report: dict[str, Any], reason: str) -> list[int]:
    return [example["row"] for example in report["dropped"][reason]["examples"]]


def test_missing_fields_are_dropped_whichever_it_is(tmp_path: Path) -> None:
    events: list[Event] = [
        ("u", "i", "view", 1),
        (None, "i", "view", 2),
        ("u", "", "view", 3),
        ("u", "i", "", 4),
        ("u", "i", "view", None),
    ]
    report = report_of(events, tmp_path)
    assert dropped(report) == {"missing field": 4}
    assert rows(report, "missing field") == [2, 3, 4], "three examples, the first ones"
    assert report["events"] == 1


def test_an_event_at_the_time_0_is_kept_like_any_other(tmp_path: Path) -> None:
    report = report_of([("u", "i", "view", -MS), ("u", "j", "view", 1 - MS)], tmp_path, time_unit="ms")
    assert dropped(report) == {}
    assert report["time_span"] == {"first": "1970-01-01T00:00:00Z", "last": "1970-01-01T00:00:00.001Z"}


def test_ids_longer_than_the_contract_allows_are_dropped(tmp_path: Path) -> None:
    events: list[Event] = [
        ("u", "ä" * 256, "view", 1),
        ("u", "ä" * 257, "view", 2),
        ("u" * 513, "i", "view", 3),
    ]
    report = report_of(events, tmp_path)
    assert dropped(report) == {"id too long": 2}
    assert rows(report, "id too long") == [2, 3]


def test_duplicates_and_repeats_are_told_apart(tmp_path: Path) -> None:
    events: list[Event] = [
        ("u", "i", "view", 0),
        ("u", "i", "view", 0),
        ("u", "i", "pv", 4_000),
        ("u", "i", "cart", 4_000),
        ("u", "i", "view", 8_000),
        ("u", "i", "view", 13_001),
        ("v", "i", "view", 0),
    ]
    assert dropped(report_of(events, tmp_path)) == {}
    assert dropped(report_of(events, tmp_path, repeat_seconds=0)) == {"duplicate": 1}
    report = report_of(events, tmp_path, repeat_seconds=5)
    assert dropped(report) == {"duplicate": 1, "repeat": 2}
    assert rows(report, "duplicate") == [2]
    assert rows(report, "repeat") == [3, 5], "of a run of repeats the first event stays"


@pytest.mark.parametrize("action", ["cancel", "Refund", "return"])
def test_cancelling_actions_are_dropped_unless_kept(action: str, tmp_path: Path) -> None:
    events: list[Event] = [("u", "i", "purchase", 1), ("u", "i", action, 2)]
    assert dropped(report_of(events, tmp_path, keep_cancellations=False)) == {"cancellation": 1}
    assert report_of(events, tmp_path)["actions"] == {"purchase": 1, action.lower(): 1}


def test_negative_quantities_are_cancellations(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp,pieces\nu,i,1700000005,-1\nu,i,1700000006,2\n")
    columns = {"quantity": "pieces"}
    report = prepare([path], tmp_path / "out", PrepareOptions(columns=columns, k_core=1))
    assert dropped(report) == {"cancellation": 1}


def test_a_robot_is_dropped_whole_and_a_brisk_shopper_stays(tmp_path: Path) -> None:
    robot: list[Event] = [("robot", f"i{at}", "view", at * 5_999) for at in range(11)]
    brisk: list[Event] = [("brisk", f"i{at}", "view", at * 6_000) for at in range(11)]
    assert dropped(report_of([*robot, *brisk], tmp_path)) == {}
    report = report_of([*robot, *brisk], tmp_path, robot_events_per_minute=10)
    assert dropped(report) == {"robot": 11}
    assert report["users"] == 1
    assert report["dropped"]["robot"]["examples"][0]["values"]["user"] == "robot"


def test_one_button_held_down_is_a_repeat_and_not_a_robot(tmp_path: Path) -> None:
    held: list[Event] = [("u", "i", "view", at * 10) for at in range(500)]
    report = report_of(held, tmp_path, robot_events_per_minute=60, repeat_seconds=5)
    assert dropped(report) == {"repeat": 499}


def test_whole_minutes_do_not_make_a_large_order_a_robot(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    order = "\n".join(f"u,i{at},2024-05-31 10:00" for at in range(200))
    path.write_text(f"user_id,item_id,timestamp\n{order}\n")
    report = prepare([path], tmp_path / "a", PrepareOptions(k_core=1))
    assert report["rules"]["robot_events_per_minute"] == 0
    assert report["events"] == 200
    options = PrepareOptions(k_core=1, robot_events_per_minute=60)
    path.write_text(f"user_id,item_id,timestamp\n{order}\nv,i1,2024-05-31 10:00\n")
    assert dropped(prepare([path], tmp_path / "b", options)) == {"robot": 200}


def test_k_core_is_peeled_until_it_holds(tmp_path: Path) -> None:
    chain: list[Event] = [(f"u{at}", f"i{at + step}", "view", at) for at in range(5) for step in (0, 1)]
    square: list[Event] = [(user, item, "view", 9) for user in ("a", "b") for item in ("x", "y")]
    report = report_of([*chain, *square], tmp_path, k_core=2)
    assert dropped(report) == {"k-core": 10}
    assert (report["users"], report["items"]) == (2, 2)
    assert report_of([*chain, *square], tmp_path)["events"] == 14


raw_event = st.tuples(
    st.sampled_from(["a", "b", "c", None]),
    st.sampled_from(["x", "y", "z", "w" * 513, ""]),
    st.sampled_from(["view", "pv", "purchase", "cancel"]),
    st.sampled_from([0, 1, 3_000, 9_000, 61_000, 100_000, None]),
)


def clean_slowly(
    events: list[Event], repeat_ms: int, robot_limit: int, k: int
) -> tuple[list[int], Counter[str]]:
    """The rules one event at a time: the rows kept (0-based) and the count of each reason."""
    reasons: dict[int, str] = {}
    for row, (user, item, action, after) in enumerate(events):
        if not user or not item or after is None:
            reasons[row] = "missing field"
        elif len(item) > 512:
            reasons[row] = "id too long"
        elif action == "cancel":
            reasons[row] = "cancellation"
    good = [row for row in range(len(events)) if row not in reasons]
    good.sort(key=lambda row: events[row][3] or 0)
    last: dict[tuple[str | None, str | None, str], int] = {}
    for row in good:
        user, item, action, after = events[row]
        key = (user, item, "view" if action == "pv" else action)
        since = None if key not in last else (after or 0) - last[key]
        last[key] = after or 0
        if since is not None and since <= repeat_ms:
            reasons[row] = "duplicate" if since == 0 else "repeat"
    kept = [row for row in good if row not in reasons]
    for user in {events[row][0] for row in kept}:
        times = [events[row][3] or 0 for row in kept if events[row][0] == user]
        if any(sum(start <= time < start + 60_000 for time in times) > robot_limit for start in times):
            reasons |= {row: "robot" for row in kept if events[row][0] == user}
    kept = [row for row in kept if row not in reasons]
    while True:
        counts = Counter(events[row][column] for row in kept for column in (0, 1))
        weak = [row for row in kept if min(counts[events[row][0]], counts[events[row][1]]) < k]
        if not weak:
            return kept, Counter(reasons.values())
        reasons |= dict.fromkeys(weak, "k-core")
        kept = [row for row in kept if row not in reasons]


@given(events=st.lists(raw_event, max_size=40))
@settings(deadline=None, max_examples=60)
def test_cleaning_a_dirty_log_equals_the_rules_one_event_at_a_time(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    always = [("s", item, "view", at * 70_000) for at in range(2) for item in ("x", "y")]
    log = [*always, *events]
    report = report_of(
        log,
        tmp_path_factory.mktemp("dirty"),
        repeat_seconds=5,
        robot_events_per_minute=3,
        k_core=2,
        keep_cancellations=False,
    )
    kept, reasons = clean_slowly(log, repeat_ms=5_000, robot_limit=3, k=2)
    assert dropped(report) == dict(reasons)
    assert report["events"] == len(kept)
    assert report["users"] == len({log[row][0] for row in kept})
    assert list(report["dropped"]) == list(REASONS)


def random_histories(seed: int) -> Histories:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 30, 60))]).astype(np.int64)
    count = int(offsets[-1])
    time = np.concatenate([np.sort(rng.integers(1, 90, length)) * 1_000 for length in np.diff(offsets)])
    return Histories(
        rng.integers(1, 9, count).astype(np.int32), rng.integers(1, 3, count).astype(np.uint8), time, offsets
    )


@pytest.mark.parametrize("block_events", [1, 7, 50, 10**6])
def test_blocks_hold_every_user_once_and_whole(block_events: int) -> None:
    histories = random_histories(3)
    parts = list(blocks(histories, block_events))
    assert np.concatenate([part.item for part, _, _ in parts]).tolist() == histories.item.tolist()
    assert np.concatenate([part.lengths for part, _, _ in parts]).tolist() == histories.lengths.tolist()
    assert [start for _, start, _ in parts[1:]] == [end for _, _, end in parts[:-1]]


def test_cleaning_in_blocks_equals_cleaning_at_once() -> None:
    histories = random_histories(4)
    rules = CleaningRules(HistoryRules(5_000), robot_events_per_minute=14, k_core=1)
    at_once = mark_dropped(histories, rules, no_progress)
    assert len(np.unique(at_once)) == 4, "every mark but k-core must occur"
    parts = [mark_dropped(part, rules, no_progress) for part, _, _ in blocks(histories, 40)]
    assert len(parts) > 10
    assert np.concatenate(parts).tolist() == at_once.tolist()


def test_robots_and_k_core_of_nothing_are_nobody() -> None:
    nothing = random_histories(5).take(np.zeros(0, np.int64), np.zeros(3, np.int64))
    assert find_robots(nothing, 5).tolist() == [False, False]
    assert in_k_core(nothing, np.zeros(0, dtype=bool), 2).tolist() == []
