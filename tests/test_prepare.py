"""`footfall prepare`: from a log to a data set."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from footfall.encoding import encode
from footfall.errors import InputError
from footfall.folder import read_manifest
from footfall.history import HistoryRules, clean
from footfall_data.dataset import KIND, Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare

START = 1_700_000_000_000
EVERYTHING = PrepareOptions(k_core=1, repeat_seconds=-1, robot_events_per_minute=0)


def random_log(num_events: int, seed: int = 0) -> pl.DataFrame:
    """A log in no order of time, with ties, repeats and every action by more than one name."""
    rng = np.random.default_rng(seed)
    actions = np.array(["pv", "view", "Buy", "cart", "addtocart", "wave"])
    return pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in rng.integers(0, 40, num_events)],
            "item_id": [f"i{item} ä" for item in (rng.random(num_events) ** 3 * 25).astype(int)],
            "action": actions[rng.integers(0, len(actions), num_events)],
            "timestamp": START + rng.integers(0, 400, num_events) * 1_000,
        }
    )


def write_log(tmp_path: Path, log: pl.DataFrame) -> Path:
    path = tmp_path / "log.parquet"
    log.write_parquet(path)
    return path


def dataset_of(log: pl.DataFrame, tmp_path: Path, options: PrepareOptions = EVERYTHING) -> Dataset:
    prepare([write_log(tmp_path, log)], tmp_path / "dataset", options)
    return Dataset.open(tmp_path / "dataset")


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file that does not say when or from which file it was made."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".json"
    }


WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    "log.csv": lambda log, path: log.write_csv(path),
    "log.csv.gz": lambda log, path: log.write_csv(path, compression="gzip"),
    "log.csv.zst": lambda log, path: log.write_csv(path, compression="zstd"),
    "log.tsv": lambda log, path: log.write_csv(path, separator="\t"),
    "log.tsv.gz": lambda log, path: log.write_csv(path, separator="\t", compression="gzip"),
    "log.jsonl": lambda log, path: log.write_ndjson(path),
    "log.ndjson.gz": lambda log, path: log.write_ndjson(path, compression="gzip"),
    "log.jsonl.zst": lambda log, path: log.write_ndjson(path, compression="zstd"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_bytes_as_parquet(name: str, tmp_path: Path) -> None:
    log = random_log(500)
    expected = content(dataset_of(log, tmp_path).folder)
    WRITERS[name](log, tmp_path / name)
    prepare([tmp_path / name], tmp_path / "other", EVERYTHING)
    assert content(tmp_path / "other") == expected


def test_many_files_and_a_folder_of_them_are_one_log(tmp_path: Path) -> None:
    log = random_log(500)
    expected = content(dataset_of(log, tmp_path).folder)
    folder = tmp_path / "parts"
    (folder / "deeper").mkdir(parents=True)
    parts = [folder / "a.csv", folder / "b.parquet", folder / "deeper" / "c.jsonl"]
    log[:100].write_csv(parts[0])
    log[100:300].write_parquet(parts[1])
    log[300:].write_ndjson(parts[2])
    (folder / "README.md").write_text("not a log")
    prepare(parts, tmp_path / "of_files", EVERYTHING)
    prepare([folder], tmp_path / "of_folder", EVERYTHING)
    assert content(tmp_path / "of_files") == expected
    assert content(tmp_path / "of_folder") == expected


def test_an_example_names_its_file_and_its_row_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\nu,i,1700000005\nu,j,1700000006\n")
    (tmp_path / "b.csv").write_text("user_id,item_id,timestamp\nu,i,1700000007\nu,,1700000008\n")
    report = prepare([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out", EVERYTHING)
    assert report["dropped"]["missing field"] == {
        "rows": 1,
        "examples": [
            {"file": "b.csv", "row": 2, "values": {"user": "u", "item": None, "time": "1700000008"}}
        ],
    }


def test_histories_are_in_time_order_and_ties_keep_log_order(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {
            "user_id": ["b", "a", "b", "b", "a"],
            "item_id": ["1", "2", "3", "4", "5"],
            "timestamp": [START + 9, START + 5, START + 2, START + 9, START + 1],
        }
    )
    dataset = dataset_of(log, tmp_path)
    assert [user.decode() for user in dataset.users] == ["a", "b"]
    assert [item.decode() for item in dataset.items] == ["5", "3", "2", "1", "4"]
    assert dataset.histories.offsets.tolist() == [0, 2, 5]
    ids = [dataset.items.id(int(item)).decode() for item in dataset.histories.item]
    assert ids == ["5", "2", "3", "1", "4"]


def test_training_histories_are_what_serving_makes_of_the_same_raw_events(tmp_path: Path) -> None:
    log = random_log(800)
    dataset = dataset_of(log, tmp_path, PrepareOptions(robot_events_per_minute=0, k_core=12))
    assert 0 < len(dataset.items) < log["item_id"].n_unique(), "k-core must leave some items and drop some"
    assert dataset.report["dropped"]["repeat"]["rows"] > 0
    for user, id_ in enumerate(dataset.users):
        raw = log.filter(pl.col("user_id") == id_.decode())
        item_ids, actions = ([text.encode() for text in raw[name]] for name in ("item_id", "action"))
        times = raw["timestamp"].to_numpy()
        offsets = np.array([0, len(times)])
        encoded = encode(item_ids, actions, times, offsets, dataset.items, dataset.actions)
        served = clean(encoded.histories, dataset.rules)
        start, end = dataset.histories.offsets[user : user + 2]
        assert served.item.tobytes() == dataset.histories.item[start:end].tobytes()
        assert served.action.tobytes() == dataset.histories.action[start:end].tobytes()
        assert served.time.tobytes() == dataset.histories.time[start:end].tobytes()


def test_actions_are_canonical_and_follow_the_funnel_then_the_alphabet(tmp_path: Path) -> None:
    dataset = dataset_of(random_log(500), tmp_path)
    assert [action.decode() for action in dataset.actions] == ["view", "cart", "purchase", "wave"]
    assert list(dataset.report["actions"]) == ["view", "cart", "purchase", "wave"]
    assert sum(dataset.report["actions"].values()) == dataset.histories.num_events


@pytest.mark.parametrize(
    "times",
    [
        [1_700_000_000, 1_700_000_001],
        [1_700_000_000_000, 1_700_000_001_000],
        [1_700_000_000_000_000, 1_700_000_001_000_000],
        [1_700_000_000.0, 1_700_000_001.0],
        ["1700000000", "1700000001.0"],
        ["2023-11-14 22:13:20", "2023-11-14 22:13:21.000"],
        ["2023-11-14T22:13:20Z", "2023-11-14T23:13:21+01:00"],
    ],
)
def test_times_in_any_writing_become_milliseconds(times: list[object], tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["i", "j"], "timestamp": times})
    assert dataset_of(log, tmp_path).histories.time.tolist() == [START, START + 1_000]


def test_real_datetimes_of_any_zone_and_dates_are_read(tmp_path: Path) -> None:
    moment = pl.Series([START, START + 7]).cast(pl.Datetime("ms", "UTC"))
    for times in (moment, moment.dt.convert_time_zone("Asia/Tokyo"), moment.cast(pl.Datetime("ns", "UTC"))):
        log = pl.DataFrame({"user_id": [1, 1], "item_id": [5, 6], "timestamp": times})
        options = PrepareOptions(k_core=1, overwrite=True)
        assert dataset_of(log, tmp_path, options).histories.time.tolist() == [START, START + 7]
    days = log.with_columns(timestamp=moment.dt.date())
    midnight = START - START % 86_400_000
    assert dataset_of(days, tmp_path, options).histories.time.tolist() == [midnight] * 2


def test_the_time_unit_can_be_said_where_the_numbers_mislead(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": [5_000]})
    with pytest.raises(InputError, match="pass --time-unit order, else say the unit"):
        dataset_of(log, tmp_path)
    for unit, expected in (("s", 5_000_000), ("ms", 5_000), ("us", 5), ("ns", 0)):
        options = PrepareOptions(k_core=1, overwrite=True, time_unit=unit)  # type: ignore[arg-type]
        assert dataset_of(log, tmp_path, options).histories.time.tolist() == [expected]


def test_files_that_write_times_differently_are_one_log(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": ["u"] * 2, "item_id": ["i", "j"], "timestamp": [START, START + 1_000]})
    seconds, moments = tmp_path / "seconds.csv", tmp_path / "moments.parquet"
    log[1:].with_columns(pl.col("timestamp") // 1_000).write_csv(seconds)
    log[:1].with_columns(pl.col("timestamp").cast(pl.Datetime("ms"))).write_parquet(moments)
    prepare([seconds, moments], tmp_path / "out", EVERYTHING)
    assert Dataset.open(tmp_path / "out").histories.time.tolist() == [START, START + 1_000]


def test_ids_of_any_type_become_text_and_whole_floats_lose_their_point(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": [17850.0], "item_id": [7], "timestamp": [START]})
    dataset = dataset_of(log, tmp_path)
    assert list(dataset.users) == [b"17850"]
    assert list(dataset.items) == [b"7"]


def test_item_facts_come_from_the_table_first_then_from_the_log(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {
            "user_id": ["u"] * 5,
            "item_id": ["a", "b", "a", "a", "c"],
            "timestamp": [START + at for at in range(5)],
            "title": ["Old", "Bee", "New", "New", None],
            "price": [1.0, 2.0, 0.0, 1.5, None],
        }
    )
    table = tmp_path / "items.csv"
    table.write_text("asin,name,category,price\nb,Honey,food,$4.50\nb,twice,,\nzzz,Nobody's,,\n")
    dataset = dataset_of(log, tmp_path, PrepareOptions(k_core=1, items=table))
    assert pl.read_parquet(dataset.folder / "items.parquet").rows() == [
        ("a", "New", None, 1.5),
        ("b", "Honey", "food", 4.5),
        ("c", None, None, None),
    ]
    assert dataset.report["item_table"] == {"title": 2, "category": 1, "price": 2}


def test_a_column_option_may_name_a_column_of_the_item_table(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": [START]})
    table = tmp_path / "items.csv"
    table.write_text("item_id,label\na,Ah\n")
    dataset = dataset_of(log, tmp_path, PrepareOptions(k_core=1, items=table, columns={"title": "label"}))
    assert pl.read_parquet(dataset.folder / "items.parquet")["title"].to_list() == ["Ah"]


def test_extending_a_data_set_keeps_the_meaning_of_every_index(tmp_path: Path) -> None:
    log = random_log(600).with_columns(title=pl.lit("T ") + pl.col("item_id"))
    first, second = tmp_path / "first", tmp_path / "second"
    log[:60].with_columns(action=pl.lit("wave")).write_csv(tmp_path / "monday.csv")
    log[300:].filter(pl.col("item_id") != log["item_id"][0]).write_csv(tmp_path / "tuesday.csv")
    prepare([tmp_path / "monday.csv"], first, EVERYTHING)
    prepare([tmp_path / "tuesday.csv"], second, PrepareOptions(k_core=1, extend=first))
    older, newer = Dataset.open(first), Dataset.open(second)
    assert older.lineage == newer.lineage
    assert older.items.is_prefix_of(newer.items)
    assert older.actions.is_prefix_of(newer.actions)
    assert len(newer.items) > len(older.items)
    assert [action.decode() for action in newer.actions] == ["wave", "view", "cart", "purchase"]
    items = pl.read_parquet(second / "items.parquet")
    assert [id_.encode() for id_ in items["item_id"]] == list(newer.items)
    assert items["title"].to_list() == [f"T {id_}" for id_ in items["item_id"]]


def test_a_data_set_that_extends_none_starts_a_lineage(tmp_path: Path) -> None:
    path = write_log(tmp_path, random_log(50))
    prepare([path], tmp_path / "a", EVERYTHING)
    prepare([path], tmp_path / "b", EVERYTHING)
    assert Dataset.open(tmp_path / "a").lineage != Dataset.open(tmp_path / "b").lineage
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_the_manifest_fingerprints_every_file_and_the_source(tmp_path: Path) -> None:
    dataset = dataset_of(random_log(50), tmp_path, PrepareOptions(repeat_seconds=2.5, k_core=1))
    manifest = read_manifest(dataset.folder, KIND, verify=True)
    assert manifest["repeat_ms"] == 2_500
    assert [source["name"] for source in manifest["source"]] == ["log.parquet"]
    assert set(manifest["files"]) >= {"item.npy", "split_time.npy", "users/values.npy", "items.parquet"}


def test_the_command_prints_one_json_object_or_a_report_for_people(tmp_path: Path) -> None:
    path = write_log(tmp_path, random_log(200))
    footfall = [sys.executable, "-c", "from footfall_cli.main import main; main()", "prepare", str(path)]
    told = subprocess.run([*footfall, "--out", str(tmp_path / "a"), "--json"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == Dataset.open(tmp_path / "a").report
    assert "preset: footfall (from its columns)" in told.stderr
    shown = subprocess.run([*footfall, "--out", str(tmp_path / "b")], capture_output=True, text=True)
    assert "200 from 1 file" in shown.stdout
    refused = subprocess.run([*footfall, "--out", str(tmp_path / "a")], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "exists already" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_existing_data_set_is_replaced_only_when_asked(tmp_path: Path) -> None:
    dataset = dataset_of(random_log(100), tmp_path)
    with pytest.raises(InputError, match="exists already"):
        dataset_of(random_log(200), tmp_path)
    assert Dataset.open(dataset.folder).report["rows_read"] == 100
    dataset_of(random_log(200), tmp_path, PrepareOptions(overwrite=True))
    assert Dataset.open(dataset.folder).report["rows_read"] == 200


def test_serving_gets_the_rule_for_repeats(tmp_path: Path) -> None:
    path = write_log(tmp_path, random_log(50))
    for seconds, repeat_ms in ((-1, -1), (0, 0), (5, 5_000)):
        prepare([path], tmp_path / "out", PrepareOptions(k_core=1, repeat_seconds=seconds, overwrite=True))
        assert Dataset.open(tmp_path / "out").rules == HistoryRules(repeat_ms)
