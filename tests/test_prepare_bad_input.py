"""Logs that are not what they should be: one sentence that says where, and nothing left behind."""

import gzip
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from footfall.errors import InputError
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare

HEADER = "user_id,item_id,timestamp\n"


def refusal(path: Path, **options: Any) -> str:
    """What prepare says of the log at `path`; checks that it leaves nothing beside it."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(InputError) as refused:
        prepare([path], path.parent / "out", PrepareOptions(**options))
    assert sorted(path.parent.iterdir()) == before
    said = str(refused.value)
    assert "\n" not in said
    return said


def log(tmp_path: Path, text: str, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_a_file_without_a_byte_holds_no_events(name: str, tmp_path: Path) -> None:
    assert f"{name} is empty: it holds no events" in refusal(log(tmp_path, "", name))


def test_a_header_without_rows_holds_no_events(tmp_path: Path) -> None:
    assert "holds no events: it has a header and no rows" in refusal(log(tmp_path, HEADER))


def test_a_compressed_nothing_holds_no_events(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(b""))
    assert "log.csv.gz is empty" in refusal(path)


def test_a_missing_column_is_named_with_those_found(tmp_path: Path) -> None:
    said = refusal(log(tmp_path, "user_id,thing,timestamp\nu,i,1700000005\n"))
    assert "has no item column item_id; it has user_id, thing, timestamp" in said
    assert "--item-column" in said


def test_columns_no_preset_knows_are_named_with_the_presets(tmp_path: Path) -> None:
    said = refusal(log(tmp_path, "a,b,c\n1,2,3\n"))
    assert "a, b, c" in said
    assert "online-retail" in said


def test_a_file_that_lacks_a_column_the_first_one_had_is_named(tmp_path: Path) -> None:
    paths = [
        log(tmp_path, HEADER + "u,i,1700000005\n", "a.csv"),
        log(tmp_path, "user_id,timestamp\nu,1700000005\n", "b.csv"),
    ]
    with pytest.raises(InputError, match=r"b\.csv has no item column item_id; it has user_id, timestamp"):
        prepare(paths, tmp_path / "out", PrepareOptions())


@pytest.mark.parametrize("order", [("bare.csv", "telling.csv"), ("telling.csv", "bare.csv")])
@pytest.mark.parametrize(
    ("telling", "said"),
    [
        ("user_id,item_id,timestamp,action\nu,i,1700000005,cart\n", "the action column action"),
        ("user_id,item_id,timestamp,title\nu,i,1700000005,Cup\n", "the title column title"),
        ("user_id,item_id,timestamp,behavior\nu,i,1700000005,buy\n", "taobao log|the action column behavior"),
    ],
)
def test_a_column_that_only_some_files_have_is_refused_in_either_order(
    order: tuple[str, str], telling: str, said: str, tmp_path: Path
) -> None:
    log(tmp_path, HEADER + "u,i,1700000005\n", "bare.csv")
    log(tmp_path, telling, "telling.csv")
    with pytest.raises(InputError, match=said) as refused:
        prepare([tmp_path / name for name in order], tmp_path / "out", PrepareOptions(k_core=1))
    assert all(name in str(refused.value) for name in order)
    assert "the files of one log need the same columns" in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["soon", "2024-13-01", "-5", "1e300", "99999999999999999"])
def test_a_time_that_cannot_be_read_is_named_with_its_row(value: str, tmp_path: Path) -> None:
    said = refusal(log(tmp_path, HEADER + f"u,i,1700000000\nu,i,\nu,i,{value}\n"))
    assert f"timestamp '{value}' in row 3 of" in said
    assert "a number of seconds since 1970" in said


def test_a_broken_time_is_found_in_a_later_file_and_batch(tmp_path: Path) -> None:
    first = log(tmp_path, HEADER + "u,i,2024-05-31 10:00:00\n" * 5, "a.csv")
    second = log(tmp_path, HEADER + "u,i,2024-05-31 10:00:00\n" * 1_200_000 + "u,i,noon\n", "b.csv")
    with pytest.raises(InputError, match=r"timestamp 'noon' in row 1200001 of .*b\.csv is not a time"):
        prepare([first, second], tmp_path / "out", PrepareOptions())


def test_times_in_no_known_writing_are_refused_with_what_is_expected(tmp_path: Path) -> None:
    assert "--time-format" in refusal(log(tmp_path, HEADER + "u,i,at 10:00 of 31.12.2024\n"))
    report = prepare(
        [tmp_path / "log.csv"], tmp_path / "out", PrepareOptions(k_core=1, time_format="at %H:%M of %d.%m.%Y")
    )
    assert report["time_span"]["first"] == "2024-12-31T10:00:00Z"


def test_a_user_with_one_event_is_outside_the_2_core_and_trains_where_that_is_off(tmp_path: Path) -> None:
    path = log(tmp_path, HEADER + "once,i,1700000005\nu,i,1700000005\nu,j,1700000060\nu,j,1700000120\n")
    report = prepare([path], tmp_path / "core", PrepareOptions())
    assert report["dropped"]["k-core"]["examples"][0]["values"]["user"] == "once"
    prepare([path], tmp_path / "all", PrepareOptions(k_core=1))
    dataset = Dataset.open(tmp_path / "all")
    assert dataset.histories.lengths.tolist() == [1, 3]
    split = dataset.split("leave_one_out")
    assert (split.train_end[0], split.validation_at[0], split.test_at[0]) == (1, -1, -1)


def test_a_log_that_cleaning_empties_is_refused_with_the_reasons(tmp_path: Path) -> None:
    said = refusal(log(tmp_path, HEADER + "u,i,1700000005\nu,,1700000006\nu,j,1700000007\n"), k_core=9)
    assert "none of the log's 3 events (missing field 1, k-core 2)" in said


def test_strict_reading_refuses_the_first_missing_field(tmp_path: Path) -> None:
    said = refusal(log(tmp_path, HEADER + "u,i,1700000005\nu,,1700000006\n"), strict=True)
    assert "row 2 of" in said
    assert "missing field" in said


def test_a_truncated_parquet_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"user_id": ["u"] * 999, "item_id": range(999), "timestamp": range(1, 1000)})
    frame.write_parquet(path)
    whole = path.read_bytes()
    for length in (1, 4, 11, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "log.parquet cannot be read, it is damaged" in refusal(path)


def test_a_parquet_with_broken_pages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"user_id": ["u"] * 999, "item_id": range(999), "timestamp": range(1, 1000)})
    frame.write_parquet(path)
    broken = bytearray(path.read_bytes())
    broken[4:400] = b"\xff" * 396
    path.write_bytes(broken)
    assert "log.parquet cannot be read, it is damaged" in refusal(path)


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    whole = gzip.compress((HEADER + "".join(f"u{at},i{at},{at + 1}\n" for at in range(9_999))).encode())
    path.write_bytes(whole[: len(whole) // 2])
    assert "log.csv.gz cannot be read, it is damaged" in refusal(path)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(f"{HEADER}u,café,1700000005\n".encode("latin-1"))
    said = refusal(path)
    assert "(row 1): its byte 0xe9 is not utf-8, say how the text is written with --encoding" in said


def test_broken_json_is_refused(tmp_path: Path) -> None:
    text = '{"user_id":1,"item_id":2,"timestamp":1700000003}\n{"user_id":1,"it'
    assert "log.jsonl cannot be read" in refusal(log(tmp_path, text, "log.jsonl"))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("log.csv", b"u,i,1700000005\n", b"u,i,6,7\n"),
        ("log.csv", b"u,i,1700000005\n", b"u,\xe9,1700000006\n"),
        ("log.csv", b'u,"i\nj",1700000005\n', b"u,i,6,7\n"),
        ("log.tsv", b'u\t"i\t5\n', b"u\ti\t6\t7\n"),
        ("log.csv.gz", b"u,i,1700000005\n", b"u,i,6,7\n"),
        ("log.jsonl", b'{"user_id":1,"item_id":2,"timestamp":1700000003}\n', b'{"user_id":1,"it\n'),
    ],
)
def test_the_row_that_breaks_a_text_file_is_named(name: str, good: bytes, bad: bytes, tmp_path: Path) -> None:
    header = {"log.jsonl": b"", "log.tsv": b"user_id\titem_id\ttimestamp\n"}.get(name, HEADER.encode())
    content = header + good * 20_000 + bad + good
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert f"{name} cannot be read, it is damaged or not what its name says (row 20001): " in refusal(path)


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.jsonl", "log.parquet"])
def test_of_a_file_that_is_no_text_little_is_repeated(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x7fELF\x02\x01\x00\xff" * 9_000)
    said = refusal(path)
    assert said.isprintable()
    assert len(said.replace(str(tmp_path), "")) < 400


def test_of_a_long_value_only_the_beginning_is_repeated(tmp_path: Path) -> None:
    assert len(refusal(log(tmp_path, HEADER + f"u,i,{'x' * 9_000}\n")).replace(str(tmp_path), "")) < 250


def test_lists_are_no_ids(tmp_path: Path) -> None:
    said = refusal(log(tmp_path, '{"user_id":1,"item_id":[2],"timestamp":1700000003}\n', "log.jsonl"))
    assert "the item column" in said
    assert "expected text or numbers" in said


def test_a_log_that_is_not_there_or_no_log_is_refused(tmp_path: Path) -> None:
    assert "nowhere.csv does not exist" in refusal(tmp_path / "nowhere.csv")
    assert "expected CSV, TSV, JSON lines" in refusal(log(tmp_path, "hello", "log.docx"))
    (tmp_path / "folder").mkdir()
    assert "folder holds no log file" in refusal(tmp_path / "folder")


def test_an_item_table_that_is_not_there_or_has_no_items_is_refused(tmp_path: Path) -> None:
    path = log(tmp_path, HEADER + "u,i,1700000005\n")
    assert "items.csv does not exist" in refusal(path, items=tmp_path / "items.csv", k_core=1)
    table = log(tmp_path, "sku,title\ni,I\n", "items.csv")
    assert "has no item column" in refusal(path, items=table, k_core=1)


def test_too_many_actions_point_at_the_wrong_column(tmp_path: Path) -> None:
    rows = "".join(f"u,i,{1_700_000_000 + at},a{at}\n" for at in range(1, 300))
    said = refusal(log(tmp_path, f"user_id,item_id,timestamp,action\n{rows}"), k_core=1)
    assert "299 different actions" in said
    assert "--action-column" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"time_unit": "days"}, "unknown time unit 'days'; there are auto, s, ms, us, ns, order"),
        ({"repeat_seconds": -2}, "repeat seconds are -2"),
        ({"repeat_seconds": math.nan}, "repeat seconds are nan"),
        ({"repeat_seconds": math.inf}, "repeat seconds are inf"),
        ({"repeat_seconds": 1e300}, r"repeat seconds are 1e\+300"),
        ({"k_core": 0}, "k-core is 0"),
        ({"robot_events_per_minute": -1}, "robot events a minute are -1"),
    ],
)
def test_options_out_of_range_are_refused_with_their_value(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PrepareOptions(**options)


def test_a_data_set_to_extend_must_be_one(tmp_path: Path) -> None:
    path = log(tmp_path, HEADER + "u,i,1700000005\n")
    assert "is not a finished dataset" in refusal(path, extend=tmp_path)
