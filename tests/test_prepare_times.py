"""Times of a log: every writing is read as what it says, asked about, or refused; none is guessed in silence."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from footfall.contract import UNKNOWN_TIME
from footfall.errors import InputError
from footfall.times import iso_time
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare

KEEP_ALL: dict[str, Any] = {"k_core": 1, "repeat_seconds": -1, "robot_events_per_minute": 0}


def times_of(times: list[Any] | pl.Series, tmp_path: Path, **options: Any) -> list[str | None]:
    """What the times become, of a user's events in this order, from Parquet and from CSV alike."""
    log = pl.DataFrame(
        {"user_id": "u", "item_id": [f"i{at}" for at in range(len(times))], "timestamp": times}
    )
    read = []
    for name, write in (("log.parquet", log.write_parquet), ("log.csv", log.write_csv)):
        write(tmp_path / name)
        prepare([tmp_path / name], tmp_path / "out", PrepareOptions(**KEEP_ALL, **options, overwrite=True))
        dataset = Dataset.open(tmp_path / "out")
        events = zip(dataset.items.ids(dataset.histories.item), dataset.histories.time, strict=True)
        read.append([iso_time(time) for _, time in sorted(events)])
    assert read[0] == read[1]
    return read[0]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([20240131, 20240312], ["2024-01-31T00:00:00Z", "2024-03-12T00:00:00Z"]),
        (["20240131", "20240312"], ["2024-01-31T00:00:00Z", "2024-03-12T00:00:00Z"]),
        ([20240131.0], ["2024-01-31T00:00:00Z"]),
        ([2024013115], ["2024-01-31T15:00:00Z"]),
        ([202401311530], ["2024-01-31T15:30:00Z"]),
        ([20240131153010], ["2024-01-31T15:30:10Z"]),
        ([20240131153010123], ["2024-01-31T15:30:10.123Z"]),
        (["20240131T153010Z"], ["2024-01-31T15:30:10Z"]),
        (["2024-W05-3"], ["2024-01-31T00:00:00Z"]),
        (["2024-031"], ["2024-01-31T00:00:00Z"]),
        (["31.01.2024 15:30"], ["2024-01-31T15:30:00Z"]),
        (["01/02/2021 07:00", "13/02/2021 07:00"], ["2021-02-01T07:00:00Z", "2021-02-13T07:00:00Z"]),
        (["2/1/21 7:05", "2/13/21 7:05"], ["2021-02-01T07:05:00Z", "2021-02-13T07:05:00Z"]),
        (["31-01-2024"], ["2024-01-31T00:00:00Z"]),
        (["31 Jan 2024 15:30"], ["2024-01-31T15:30:00Z"]),
        (["01/31/2024 03:30 PM"], ["2024-01-31T15:30:00Z"]),
        (["Wed, 31 Jan 2024 15:30:10 +0100"], ["2024-01-31T14:30:10Z"]),
        (["31/Jan/2024:15:30:10 +0100"], ["2024-01-31T14:30:10Z"]),
        (["2024-01-31 15:30:10,123"], ["2024-01-31T15:30:10.123Z"]),
        (["2024-01-31T10:00:00Z", "2024-01-31T10:00:00+02:00"], ["2024-01-31T10:00:00Z", "2024-01-31T08:00:00Z"]),
        (["2024-01-31T10:00:00.5-05", "2024-01-31T10:00:00Z"], ["2024-01-31T15:00:00.500Z", "2024-01-31T10:00:00Z"]),
        (["2024-07-31 10:00:00 CEST", "2024-01-31 10:00:00 PST"], ["2024-07-31T08:00:00Z", "2024-01-31T18:00:00Z"]),
        (["2024-07-31 10:00:00 UTC"], ["2024-07-31T10:00:00Z"]),
        ([1_700_000_000_123_456_789], ["2023-11-14T22:13:20.123Z"]),
        (["1700000000,5", "1700000001,25"], ["2023-11-14T22:13:20.500Z", "2023-11-14T22:13:21.250Z"]),
        ([" 1700000000 "], ["2023-11-14T22:13:20Z"]),
    ],
)  # fmt: skip
def test_a_time_is_read_as_it_is_written(written: list[Any], expected: list[str], tmp_path: Path) -> None:
    assert times_of(written, tmp_path) == expected


def refusal(times: list[Any], tmp_path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        times_of(times, tmp_path, **options)
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("written", "day_first", "month_first"),
    [
        ("01/02/2021 07:00", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"),
        ("01.02.2021", "%d.%m.%Y", "%m.%d.%Y"),
        ("1-2-21 7:00:05", "%d-%m-%y %H:%M:%S%.f", "%m-%d-%y %H:%M:%S%.f"),
    ],
)
def test_day_and_month_that_cannot_be_told_apart_are_asked_about(
    written: str, day_first: str, month_first: str, tmp_path: Path
) -> None:
    said = refusal([written] * 3, tmp_path)
    assert f"{written!r}, of which day and month cannot be told apart: say with --time-format" in said
    assert f"{day_first!r} or {month_first!r}" in said
    (first, *_) = times_of([written], tmp_path, time_format=day_first)
    assert first is not None
    assert first.startswith("2021-02-01")


def test_the_first_day_above_12_tells_the_order_wherever_it_stands(tmp_path: Path) -> None:
    times = ["01/02/2021"] * 500 + ["13/02/2021"]
    assert set(times_of(times, tmp_path)) == {"2021-02-01T00:00:00Z", "2021-02-13T00:00:00Z"}


@pytest.mark.parametrize("zone", ["IST", "BST", "CST", "LMT"])
def test_a_zone_name_of_no_or_several_meanings_is_refused(zone: str, tmp_path: Path) -> None:
    said = refusal(["2024-07-31 10:00:00 CEST", f"2024-07-31 10:00:00 {zone}"], tmp_path)
    assert f"timestamp '2024-07-31 10:00:00 {zone}' in row 2 of" in said


@pytest.mark.parametrize(
    "places", [[0, 1, 2, 3], [1, 2, 3, 4], [0.0, 1.0, 2.0, 3.0], ["0", "1", "2", "3"], [5, 70_000, -1, 9]]
)
def test_small_numbers_are_asked_about_and_taken_as_an_order(places: list[Any], tmp_path: Path) -> None:
    assert "pass --time-unit order" in refusal(places, tmp_path)
    assert times_of(places, tmp_path, time_unit="order") == [None] * 4


def test_an_order_is_kept_without_any_time_or_cleaning_by_time(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    places = [2, 0, 1, 1, 10**17 + 1, 10**17]
    rows = "".join(f"u,i{at % 2},{place}\n" for at, place in enumerate(places))
    path.write_text(f"user_id,item_id,timestamp\n{rows}")
    report = prepare([path], tmp_path / "out", PrepareOptions(time_unit="order"))
    dataset = Dataset.open(tmp_path / "out")
    assert report["events"] == 6, "no two are a repeat, since no time between them is known"
    assert [item.decode() for item in dataset.items.ids(dataset.histories.item)] == [
        "i1",
        "i0",
        "i1",
        "i0",
        "i1",
        "i0",
    ]
    assert set(dataset.histories.time.tolist()) == {UNKNOWN_TIME}
    assert report["time_span"] == {"first": None, "last": None}
    assert report["splits"]["leave_one_out"]["test_users"] == 1
    assert report["splits"]["time"] == {"validation_users": 0, "test_users": 0}
    assert dataset.split("time").train_end.tolist() == [6]


def test_a_place_in_an_order_that_is_no_whole_number_is_refused(tmp_path: Path) -> None:
    said = refusal([1.0, 2.5], tmp_path, time_unit="order")
    assert "timestamp '2.5' in row 2 of" in said
    with pytest.raises(InputError, match="robot events a minute cannot be counted"):
        PrepareOptions(time_unit="order", robot_events_per_minute=9)


@pytest.mark.parametrize(
    ("unit", "times", "said"),
    [
        ("ms", [1_700_000_000], "in milliseconds that is 1970-01-20T16:13:20Z, in seconds 2023-11-14T22:13:20Z"),
        ("us", [1_700_000_000_000], "in milliseconds that is 1970-01-20T16:13:20Z"),
        ("s", [1_700_000_000_000], "is not a number of seconds since 1970"),
        ("auto", [1_700_000_000_000] * 9 + [1_700_000_000], "timestamp '1700000000' in row 10 of"),
        ("auto", [1_700_000_000] * 9 + [1_700_000_000_000], "timestamp '1700000000000' in row 10 of"),
        ("auto", ["1970-01-20 16:13:20"], "in seconds 2023-11-14T22:13:20Z"),
        ("auto", [-1, 1_700_000_000], "timestamp '-1' in row 1 of"),
    ],
)  # fmt: skip
def test_times_that_another_unit_would_explain_are_refused(
    unit: Any, times: list[Any], said: str, tmp_path: Path
) -> None:
    assert said in refusal(times, tmp_path, time_unit=unit)


@pytest.mark.parametrize(
    ("times", "row"),
    [
        (["2024-01-01 10:00:00", "2024-01-01T10:00:00Z"], 2),
        (["31/12/2024", "12/31/2024"], 2),
        (["1700000000", "2024-01-01"], 2),
        (["1700000000", "NaN", "null"], 2),
    ],
)
def test_of_two_writings_in_one_column_the_second_is_a_bad_row(
    times: list[str], row: int, tmp_path: Path
) -> None:
    said = refusal(times, tmp_path)
    assert f"timestamp {times[row - 1]!r} in row {row} of" in said
    assert "--drop-bad-rows" in said


def test_times_in_categories_are_texts(tmp_path: Path) -> None:
    times = pl.Series(["2024-01-31", "2024-02-01"], dtype=pl.Categorical)
    assert times_of(times, tmp_path) == ["2024-01-31T00:00:00Z", "2024-02-01T00:00:00Z"]


def test_rows_whose_time_cannot_be_read_are_dropped_and_counted_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "user_id,item_id,timestamp\nu,i,1700000000\nu,j,oops\nu,k,1700000060\nu,l,-7\nu,m,\nu,n,1700000000000000\n"
    )
    with pytest.raises(InputError, match=r"timestamp 'oops' in row 2 of .*--drop-bad-rows drops and counts"):
        prepare([path], tmp_path / "out", PrepareOptions(k_core=1))
    report = prepare([path], tmp_path / "out", PrepareOptions(k_core=1, drop_bad_rows=True))
    assert report["events"] == 2
    assert report["dropped"]["missing field"]["rows"] == 1
    assert report["dropped"]["unreadable time"] == {
        "rows": 3,
        "examples": [
            {"file": "log.csv", "row": 2, "values": {"user": "u", "item": "j", "time": "oops"}},
            {"file": "log.csv", "row": 4, "values": {"user": "u", "item": "l", "time": "-7"}},
            {"file": "log.csv", "row": 6, "values": {"user": "u", "item": "n", "time": "1700000000000000"}},
        ],
    }


@pytest.mark.parametrize(
    ("text_format", "said"),
    [
        ("%f", "write parts of a second as %.f"),
        ("%Z %Y", "can only come last"),
        ("%H:%M", "is not a time after 1970"),
    ],
)
def test_a_time_format_that_would_mislead_is_refused(text_format: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(["2024-01-31"], tmp_path, time_format=text_format)


def test_a_time_format_may_be_written_as_python_does_and_reads_numbers_too(tmp_path: Path) -> None:
    assert times_of(["15.250 on 2024-01-31 10:00"], tmp_path, time_format="%S.%f on %Y-%m-%d %H:%M") == [
        "2024-01-31T10:00:15.250Z"
    ]
    assert times_of([310124], tmp_path, time_format="%d%m%y") == ["2024-01-31T00:00:00Z"]


def test_a_column_of_durations_is_no_time(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": "u", "item_id": "i", "timestamp": [timedelta(days=1)]})
    log.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(InputError, match=r"the time column timestamp of .* holds Duration"):
        prepare([tmp_path / "log.parquet"], tmp_path / "out", PrepareOptions())
