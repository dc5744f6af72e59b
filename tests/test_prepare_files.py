"""Files as people have them: encodings, separators, quotes, damaged rows, folders that tell a column."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from footfall.errors import InputError
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare

KEEP_ALL: dict[str, Any] = {"k_core": 1, "repeat_seconds": -1, "robot_events_per_minute": 0}
START = 1_700_000_000
HEADER = "user_id,item_id,timestamp\n"


def read(log: Path, **options: Any) -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
    """(user, item, action) of every event in order of users, and the report."""
    out = log.parent / "out"
    report = prepare([log], out, PrepareOptions(**KEEP_ALL, **options, overwrite=True))
    dataset = Dataset.open(out)
    histories = dataset.histories
    users = [
        user.decode() for user, n in zip(dataset.users, histories.lengths, strict=True) for _ in range(n)
    ]
    items = [item.decode() for item in dataset.items.ids(histories.item)]
    actions = [action.decode() for action in dataset.actions.ids(histories.action)]
    return list(zip(users, items, actions, strict=True)), report


def refusal(log: Path, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        prepare([log], log.parent / "out", PrepareOptions(**KEEP_ALL, **options))
    assert not (log.parent / "out").exists()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8-sig", False),
        ("utf-16", False),
        ("utf-32", False),
        ("latin-1", True),
        ("cp1252", True),
        ("utf-16-le", True),
    ],
)
@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.tsv", "log.jsonl"])
def test_text_is_read_in_its_encoding(encoding: str, told: bool, name: str, tmp_path: Path) -> None:
    rows = [("ü", "café", START), ("ü", "thé", START + 9)]
    if name == "log.jsonl":
        keys = ("user_id", "item_id", "timestamp")
        lines = [json.dumps(dict(zip(keys, row, strict=True)), ensure_ascii=False) for row in rows]
    else:
        comma = "\t" if name == "log.tsv" else ","
        lines = [HEADER.strip().replace(",", comma), *(comma.join(map(str, row)) for row in rows)]
    content = "\r\n".join(lines).encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    events, _ = read(path, **({"encoding": encoding} if told else {}))
    assert events == [("ü", "café", "view"), ("ü", "thé", "view")]


def test_a_byte_that_is_not_utf8_is_named_with_its_row_and_the_option(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(f"{HEADER}u,i,{START}\nu,caf\xe9,{START + 9}\n".encode("latin-1"))
    said = refusal(path)
    assert (
        "log.csv cannot be read, it is damaged or not what its name says (row 2): its byte 0xe9 is not utf-8"
        in said
    )
    assert "--encoding, such as latin-1 or cp1252" in said
    assert "--encoding utf-16-le" in refusal(
        _written(tmp_path, "b.csv", f"{HEADER}u,i,{START}\n".encode("utf-16-le"))
    )
    with pytest.raises(InputError, match="unknown encoding 'klingon'"):
        PrepareOptions(encoding="klingon")


def _written(tmp_path: Path, name: str, content: bytes | str) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", ["log.csv", "log.dat", "log.tsv.gz"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::"])
@pytest.mark.parametrize(("mark", "line_end"), [("", "\n"), ("\ufeff", "\r\n"), ("", "\r")])
def test_the_separator_is_told_from_the_header(
    name: str, separator: str, mark: str, line_end: str, tmp_path: Path
) -> None:
    rows = ["user_id,item_id,timestamp", f"u,i,{START}", f"u,j,{START + 9}", "", ""]
    content = (mark + line_end.join(row.replace(",", separator) for row in rows)).encode()
    events, report = read(
        _written(tmp_path, name, gzip.compress(content) if name.endswith("gz") else content)
    )
    assert events == [("u", "i", "view"), ("u", "j", "view")]
    assert report["rows_read"] == 2, "blank lines are no rows"
    assert not any(facts["rows"] for facts in report["dropped"].values())


def test_movielens_with_colons_needs_no_header(tmp_path: Path) -> None:
    path = _written(tmp_path, "ratings.dat", f"1::1193::5::{START}\n1::661::3::{START + 9}\n")
    events, report = read(path)
    assert report["preset"]["name"] == "movielens"
    assert events == [("1", "1193", "view"), ("1", "661", "view")]


def test_a_spreadsheet_may_say_its_separator_in_a_line_of_its_own(tmp_path: Path) -> None:
    path = _written(tmp_path, "log.csv", f"\ufeffsep=;\r\nuser_id;item_id;timestamp\r\nu;i,j;{START}\r\n")
    assert read(path)[0] == [("u", "i,j", "view")]


def test_prices_are_read_with_either_decimal_sign(tmp_path: Path) -> None:
    log = _written(tmp_path, "log.csv", HEADER + "".join(f"u,i{at},{START + at}\n" for at in range(6)))
    prices = ["4,50", "1.234,50", "1,234.50", "€ 7", "8.25 $", "1,234"]
    rows = "".join(f"i{at};{price}\n" for at, price in enumerate(prices))
    read(log, items=_written(tmp_path, "items.csv", f"item_id;price\n{rows}"))
    read_prices = pl.read_parquet(tmp_path / "out" / "items.parquet")["price"].to_list()
    assert read_prices == [4.5, 1234.5, 1234.5, 7.0, 8.25, None]


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ('a 5" screen', 'a 5" screen'),
        ('a 5" by 7" print', 'a 5" by 7" print'),
        ('"Best" lamp', '"Best" lamp'),
        ('5" screen"', '5" screen"'),
        ('"a, b"', "a, b"),
        ('"a ""quoted"" b"', 'a "quoted" b'),
        ('"two\nlines"', "two\nlines"),
        ('"', '"'),
    ],
)
@pytest.mark.parametrize("stray", ["", 'i9,it is 9" high\n'])
def test_quotes_in_titles_are_read_as_they_stand(
    written: str, title: str, stray: str, tmp_path: Path
) -> None:
    log = _written(tmp_path, "log.csv", HEADER + "".join(f"u,i{at},{START + at}\n" for at in range(3)))
    rows = "".join(f"i{at},{written}\n" for at in range(3))
    table = _written(tmp_path, "items.csv", f"item_id,title\n{rows}{stray}")
    read(log, items=table)
    titles = pl.read_parquet(tmp_path / "out" / "items.parquet")["title"].to_list()
    assert titles == [title] * 3


def test_a_stray_quote_in_the_events_swallows_no_row(tmp_path: Path) -> None:
    rows = [f"u,{item},{START + at}" for at, item in enumerate(["a", '5" b', "c", "d", '7" e', "f"])]
    events, report = read(_written(tmp_path, "log.csv", HEADER + "\n".join(rows)))
    assert [item for _, item, _ in events] == ["a", '5" b', "c", "d", '7" e', "f"]
    assert report["rows_read"] == 6
    opening = HEADER + f'u,"a,{START}\nu,b,{START}\nu,c",{START}\nu,d,{START}\n'
    said, _ = read(_written(tmp_path, "log.csv", opening))
    assert [item for _, item, _ in said] == ['"a', "b", 'c"', "d"], "not one item of three lines"


def test_a_quote_that_does_not_close_where_it_must_is_named_with_its_row(tmp_path: Path) -> None:
    path = _written(tmp_path, "log.csv", HEADER + f'u,i,{START}\nu,"a, b,{START}\nu,j,{START + 9}\n')
    said = refusal(path)
    assert "(row 2): a quote in it does not close" in said
    assert "--drop-bad-rows drops and counts such rows" in said
    events, _ = read(path, drop_bad_rows=True)
    assert [item for _, item, _ in events] == ["i", "j"]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("log.csv", [b"u,i,1,2,3", b"u,\xe9,1700000000", b'u,"a,1,2']),
        ("log.tsv", [b"u\ti\t1\t2", b"u\t\xe9\t1700000000", b"\t\t\t\t"]),
        ("log.jsonl", [b'{"user_id": "u", "it', b"[1, 2]", b"nonsense"]),
    ],
)
def test_bad_rows_are_dropped_and_counted_where_asked(name: str, bad: list[bytes], tmp_path: Path) -> None:
    good = {
        "log.csv": [b"user_id,item_id,timestamp", *(f"u,i{at},{START + at}".encode() for at in range(4))],
        "log.tsv": [b"user_id\titem_id\ttimestamp", *(f"u\ti{at}\t{START + at}".encode() for at in range(4))],
        "log.jsonl": [
            json.dumps({"user_id": "u", "item_id": f"i{at}", "timestamp": START + at}).encode()
            for at in range(4)
        ],
    }[name]
    lines = [*good[:-2], bad[0], good[-2], bad[1], bad[2], good[-1]]
    path = _written(tmp_path, name, b"\n".join(lines) + b"\n")
    assert "(row 3): " in refusal(path)
    events, report = read(path, drop_bad_rows=True)
    assert [item for _, item, _ in events] == ["i0", "i1", "i2", "i3"]
    counted = 2 if name == "log.tsv" else 3  # tabs alone are a blank line
    assert report["rows_read"] == 4 + counted
    assert report["dropped"]["unreadable row"]["rows"] == counted
    assert [example["row"] for example in report["dropped"]["unreadable row"]["examples"]][:2] == [3, 5]


@pytest.mark.parametrize("first", ["u", "u,i,1,2", ",,", ""])
def test_a_first_row_of_another_width_changes_nothing_for_the_others(first: str, tmp_path: Path) -> None:
    path = _written(tmp_path, "log.csv", HEADER + f"{first}\nu,i,{START}\nu,j,{START + 9}\n")
    events, report = read(path, drop_bad_rows=first == "u,i,1,2")
    assert events == [("u", "i", "view"), ("u", "j", "view")]
    assert report["rows_read"] == (2 if not first.strip(",") else 3)


def test_a_row_that_ends_early_is_a_missing_field_and_separators_alone_are_no_row(tmp_path: Path) -> None:
    path = _written(tmp_path, "log.csv", HEADER + f"u,i,{START}\nu,j\n,,\nu,k,{START + 9}\n,,\n\n")
    events, report = read(path)
    assert len(events) == 2
    assert report["rows_read"] == 3
    assert report["dropped"]["missing field"] == {
        "rows": 1,
        "examples": [{"file": "log.csv", "row": 2, "values": {"user": "u", "item": "j", "time": None}}],
    }


@pytest.mark.parametrize(
    "header",
    ["User_ID,Item_ID,Timestamp", "user id,item id,timestamp", '"user_id","item_id","timestamp"',
     " user_id , item_id , timestamp ", "userId,itemId,timeStamp", "USER-ID,ITEM-ID,TIMESTAMP"],
)  # fmt: skip
def test_names_of_columns_are_known_however_they_are_spelled(header: str, tmp_path: Path) -> None:
    space = " " if header.startswith(" ") else ""
    rows = f"u,{space}i,{space}{START}\nu,{space}j,{space}{START + 9}\n"
    events, report = read(_written(tmp_path, "log.csv", f"{header}\n{rows}"))
    assert events == [("u", "i", "view"), ("u", "j", "view")]
    assert report["preset"]["name"] in ("footfall", "movielens")


@pytest.mark.parametrize("header", ["user_id,item_id,item_id,timestamp", "user_id,item_ID,Item_id,timestamp"])
def test_two_columns_of_one_name_are_refused(header: str, tmp_path: Path) -> None:
    said = refusal(_written(tmp_path, "log.csv", f"{header}\nu,i,j,{START}\n"))
    assert "of which only one can be the column item_id" in said


def _partition(folder: Path, path: str, items: list[str], user: str | None = "u") -> None:
    part = folder / path
    part.mkdir(parents=True)
    columns: dict[str, Any] = {"item_id": items, "timestamp": [START + at for at in range(len(items))]}
    if user is not None:
        columns["user_id"] = user
    pl.DataFrame(columns).write_parquet(part / "part-0.parquet")


def test_the_columns_of_a_path_are_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    _partition(log, "date=2024-01-31/action=view", ["a", "b"])
    _partition(log, "date=2024-02-01/action=add%5Fto%5Fcart", ["a"])
    _partition(log, "date=2024-02-01/action=__HIVE_DEFAULT_PARTITION__", ["c"])
    _partition(log, "_temporary/action=view", ["never"])
    events, report = read(log)
    assert sorted(events) == [("u", "a", "cart"), ("u", "a", "view"), ("u", "b", "view")]
    assert report["dropped"]["missing field"]["rows"] == 1
    assert report["dropped"]["missing field"]["examples"][0]["file"].startswith(
        "log/date=2024-02-01/action=__HIVE"
    )
    assert report["files"][0] == "log/date=2024-01-31/action=view/part-0.parquet"


def test_users_and_times_may_be_told_by_the_path_and_keep_their_zeros(tmp_path: Path) -> None:
    log = tmp_path / "log"
    _partition(log, "day=20240131/user_id=007", ["a"], user=None)
    _partition(log, "day=20240201/user_id=a%20b%2Fc", ["b"], user=None)
    events, report = read(log, columns={"time": "day"})
    assert sorted(events) == [("007", "a", "view"), ("a b/c", "b", "view")]
    assert report["time_span"]["last"] == "2024-02-01T00:00:00Z"


def test_a_path_tells_columns_of_text_files_too_and_of_files_named_one_by_one(tmp_path: Path) -> None:
    paths = []
    for action, item in (("view", "a"), ("cart", "b")):
        (tmp_path / f"action={action}").mkdir()
        paths.append(_written(tmp_path / f"action={action}", "log.csv", HEADER + f"u,{item},{START}\n"))
    report = prepare(paths, tmp_path / "out", PrepareOptions(**KEEP_ALL))
    assert report["actions"] == {"view": 1, "cart": 1}
    assert report["files"] == ["action=view/log.csv", "action=cart/log.csv"]


def test_a_column_that_only_some_paths_tell_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    _partition(log, "action=view", ["a"])
    _partition(log, "other", ["a"])
    assert "the files of one log need the same columns" in refusal(log)


def test_empty_files_among_others_are_left_out_and_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    _written(log, "a.csv", "")
    _written(log, "b.csv", HEADER)
    _written(log, "c.csv.gz", gzip.compress(b""))
    _written(log, "d.csv", HEADER + f"u,i,{START}\n")
    events, report = read(log)
    assert events == [("u", "i", "view")]
    assert report["files"] == ["log/b.csv", "log/d.csv"]
    assert report["empty_files"] == ["log/a.csv", "log/c.csv.gz"]


def test_json_lines_may_hold_what_nobody_asked_for_and_ids_of_any_kind(tmp_path: Path) -> None:
    rows = [
        '{"user_id": 7, "item_id": 18446744073709551615, "timestamp": 1700000000, "x": {"a": [1, {"b": 2}]}}',
        '{"user_id": "7", "item_id": "007", "timestamp": 1700000001.0, "x": 3, "y": [[]]}',
        "",
        '{"x": null, "timestamp": "1700000002", "item_id": 12.0, "user_id": 7.0}',
    ]
    events, report = read(_written(tmp_path, "log.jsonl", "\n".join(rows) + "\n\n"))
    assert [user for user, _, _ in events] == ["7"] * 3
    assert [item for _, item, _ in events] == ["18446744073709551615", "007", "12"]
    assert report["rows_read"] == 3


def test_a_json_array_is_told_from_json_lines(tmp_path: Path) -> None:
    said = refusal(_written(tmp_path, "log.json", '[{"user_id": 1, "item_id": 2, "timestamp": 1700000000}]'))
    assert "it is one JSON array, expected JSON lines" in said


def test_categories_of_json_lines_may_be_paths(tmp_path: Path) -> None:
    log = _written(tmp_path, "log.csv", HEADER + f"u,i,{START}\nu,j,{START + 9}\n")
    rows = [
        '{"item_id": "i", "categories": [["Beauty", "Hair"], ["X"]]}',
        '{"item_id": "j", "categories": "[new]"}',
    ]
    read(log, items=_written(tmp_path, "items.jsonl", "\n".join(rows)))
    assert pl.read_parquet(tmp_path / "out" / "items.parquet")["category"].to_list() == [
        "Beauty > Hair",
        "[new]",
    ]
