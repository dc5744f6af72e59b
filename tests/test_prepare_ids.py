"""Ids of any type, and what the report says first: nothing is merged or left out unsaid."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from footfall.errors import InputError
from footfall_data.dataset import Dataset
from footfall_data.logs import reading
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_data.report import render

START = 1_700_000_000
KEEP_ALL: dict[str, Any] = {"k_core": 1, "repeat_seconds": -1, "robot_events_per_minute": 0}


def items_of(path: Path | list[Path], out: Path, **options: Any) -> tuple[list[str], dict[str, Any]]:
    """The item of every event, and the report."""
    paths = path if isinstance(path, list) else [path]
    report = prepare(paths, out, PrepareOptions(**KEEP_ALL, **options, overwrite=True))
    dataset = Dataset.open(out)
    return [item.decode() for item in dataset.items.ids(dataset.histories.item)], report


def log_of(items: Any, path: Path, **columns: Any) -> Path:
    times = [START + 60 * at for at in range(len(items))]
    log = pl.DataFrame({"user_id": "u", "item_id": items, "timestamp": times, **columns})
    if path.suffix == ".parquet":
        log.write_parquet(path)
    else:
        log.write_csv(path)
    return path


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (pl.Series([12.0, 0.5, 13.0]), ["12", "0.5", "13"]),
        (pl.Series([2**63 - 1, 2**53 + 1, -3]), ["9223372036854775807", "9007199254740993", "-3"]),
        (pl.Series([2**64 - 1], dtype=pl.UInt64), ["18446744073709551615"]),
        (pl.Series(["007", " 7", "a b"]), ["007", " 7", "a b"]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
        (pl.Series([Decimal("12.00"), Decimal("1.50")]), ["12", "1.50"]),
        (pl.Series([b"a", "ü".encode()]), ["a", "ü"]),
        (pl.Series(["12.0", "12", "13"]), ["12", "12", "13"]),
        (pl.Series(["12.0", "12", "1.5"]), ["12.0", "12", "1.5"]),
    ],
)
def test_ids_of_any_type_are_the_text_a_client_would_send(
    items: pl.Series, expected: list[str], tmp_path: Path
) -> None:
    path = log_of(items, tmp_path / "log.parquet", tags=[["ignored"]] * len(items))
    assert items_of(path, tmp_path / "out")[0] == expected


def test_an_id_is_one_text_in_every_batch_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_ROWS", 2)
    paths = [
        log_of([12.0, 13.0, 0.5, 12.0], tmp_path / "floats.parquet"),
        log_of([12, 13], tmp_path / "integers.parquet"),
        log_of(["12", "0.5"], tmp_path / "texts.csv"),
    ]
    items, report = items_of(paths, tmp_path / "out")
    assert sorted(items) == ["0.5", "0.5", "12", "12", "12", "12", "13", "13"]
    assert report["items"] == 3


def test_whole_numbers_written_as_floats_in_one_file_only_are_joined_and_said(tmp_path: Path) -> None:
    paths = [log_of(["12.0", "13.0"], tmp_path / "a.csv"), log_of(["12", "14"], tmp_path / "b.csv")]
    table = tmp_path / "items.csv"
    table.write_text("item_id,title\n12.0,Twelve\n13.0,Thirteen\n")
    items, report = items_of(paths, tmp_path / "out", items=table)
    assert sorted(items) == ["12", "12", "13", "14"]
    assert report["notes"][0] == "item ids are whole numbers, some written as 12.0: read as 12"
    written = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert dict(zip(written["item_id"], written["title"], strict=True)) == {
        "12": "Twelve",
        "13": "Thirteen",
        "14": None,
    }


def test_ids_that_differ_by_a_point_only_are_kept_apart_and_said_where_others_are_text(
    tmp_path: Path,
) -> None:
    items, report = items_of(log_of(["12.0", "12", "shirt"], tmp_path / "log.csv"), tmp_path / "out")
    assert items == ["12.0", "12", "shirt"]
    assert report["notes"][0] == "item ids such as 12 and 12.0 are two items"


def test_floats_beyond_what_they_hold_exactly_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the item column of .* holds Float64 beyond 2"):
        items_of(log_of([1e17], tmp_path / "log.parquet"), tmp_path / "out")


def test_bytes_that_are_no_text_are_no_ids(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the item column of .* holds Binary that is no text"):
        items_of(log_of([b"\xff"], tmp_path / "log.parquet"), tmp_path / "out")


def first_lines(report: dict[str, Any]) -> list[str]:
    return render(report).split("\n")[: 1 + len(report["notes"])]


def test_the_first_lines_of_a_report_say_what_was_lost_and_why(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "user_id,item_id,timestamp\nu,i,2024-05-31\nu,i,2024-05-31\nu,,2024-05-31\n,j,2024-05-31\nu,j,\nu,k,2024-06-01\n"
    )
    report = prepare([path], tmp_path / "out", PrepareOptions(k_core=1))
    assert first_lines(report) == [
        "6 rows read, 2 events kept; dropped: missing field 3 (50.00%), duplicate 1 (16.67%)",
        "note: missing fields by column: user 1, item 1, time 1",
        "note: 1 rows are the same user, item and action again; times are whole days, so who comes back within one "
        "repeats (--repeat-seconds -1 keeps them)",
    ]
    assert list(report)[:3] == ["out", "summary", "notes"]


def test_times_that_are_legal_but_odd_are_said(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp\nu,i,1970-01-01\nu,j,2024-05-31\nu,k,2999-01-01\n")
    report = prepare([path], tmp_path / "out", PrepareOptions(k_core=1))
    assert report["notes"] == [
        "1 events lie before 1990, the first at 1970-01-01T00:00:00Z",
        "1 events lie in the future, the last at 2999-01-01T00:00:00Z",
    ]


def test_an_id_that_may_stand_for_a_missing_value_is_kept_and_said(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,timestamp\nNULL,i,{START}\nNULL,j,{START + 9}\nu,i,{START}\n")
    report = prepare([path], tmp_path / "out", PrepareOptions(k_core=1))
    assert report["events"] == 3
    assert report["notes"] == ["2 events are of a user called NULL, which may stand for none"]


def test_an_ordinary_log_needs_no_note(tmp_path: Path) -> None:
    _, report = items_of(log_of(["a", "b"], tmp_path / "log.csv"), tmp_path / "out")
    assert first_lines(report) == ["2 rows read, 2 events kept; dropped: none"]
