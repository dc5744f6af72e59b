"""The logs of ../shared/cases: each is read as it is meant, or refused in a sentence that names the way on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from footfall.errors import InputError
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare

CASES = Path(__file__).resolve().parent.parent.parent / "shared" / "cases"

# folder -> the log in it, the options that read it, what the sentence says without them (None: it is read without)
READ: Mapping[str, tuple[str, dict[str, Any], str | None]] = {
    "02-latin1": ("events.csv", {"encoding": "latin-1"}, r"\(row 1\): its byte 0xe9 is not utf-8, .*--encoding"),
    "05-broken-quote": ("events.csv", {}, None),
    "09-hive": ("log", {}, None),
    "12-semicolon-bom": ("events.csv", {}, None),
    "19-order-from-zero": ("events.csv", {"time_unit": "order"}, "pass --time-unit order"),
    "22-compact-dates": ("events.csv", {}, None),
    "25-slash-dayfirst": (
        "events.csv", {"time_format": "%d/%m/%Y %H:%M"}, "day and month cannot be told apart: say with --time-format"
    ),
    "28-one-bad-time": ("events.csv", {"drop_bad_rows": True}, "timestamp 'oops' in row 41 .*--drop-bad-rows"),
}  # fmt: skip


def case(name: str) -> tuple[Path, dict[str, Any], dict[str, Any], str | None]:
    """The log, the options always given, those that read it, and the sentence without."""
    if not CASES.is_dir():
        pytest.skip("the cases are not beside this checkout (../shared/cases)")
    log, options, said = READ[name]
    always: dict[str, Any] = {}
    if name == "19-order-from-zero":
        always["columns"] = {"time": "position"}
    if name == "05-broken-quote":
        always["items"] = CASES / name / "items.csv"
    return CASES / name / log, always, options, said


@pytest.mark.parametrize("name", READ)
def test_a_case_is_read_whole(name: str, tmp_path: Path) -> None:
    log, always, options, _ = case(name)
    report = prepare([log], tmp_path / "out", PrepareOptions(**always, **options))
    lost = {reason: facts["rows"] for reason, facts in report["dropped"].items() if facts["rows"]}
    assert lost == ({"unreadable time": 1} if name == "28-one-bad-time" else {})
    events = {"09-hive": 144, "28-one-bad-time": 71}.get(name, 72)
    assert report["events"] == events
    assert report["actions"] == ({"view": 72, "cart": 72} if name == "09-hive" else {"view": events})
    span = {
        "19-order-from-zero": (None, None),
        "22-compact-dates": ("2024-01-01T00:00:00Z", "2024-03-12T00:00:00Z"),
        "25-slash-dayfirst": ("2021-02-01", "2021-02-12"),
    }.get(name)
    if span is not None:
        for written, expected in zip(report["time_span"].values(), span, strict=True):
            assert written == expected or written.startswith(expected)
    if name == "05-broken-quote":
        items = pl.read_parquet(tmp_path / "out" / "items.parquet")
        assert dict(zip(items["item_id"], items["title"], strict=True))["i1"] == 'a 5" screen 1'
    if name == "02-latin1":
        assert Dataset.open(tmp_path / "out").items.id(1).decode().startswith("café")


@pytest.mark.parametrize("name", [name for name, (_, _, said) in READ.items() if said is not None])
def test_a_case_that_needs_an_option_asks_for_it(name: str, tmp_path: Path) -> None:
    log, always, _, said = case(name)
    with pytest.raises(InputError, match=said):
        prepare([log], tmp_path / "out", PrepareOptions(**always))
    assert list(tmp_path.iterdir()) == []
