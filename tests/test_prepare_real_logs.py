"""Three real logs, counted."""

from pathlib import Path

import polars as pl

from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare


def test_beauty_keeps_every_event_in_file_order(shared_datasets: Path, tmp_path: Path) -> None:
    folder = shared_datasets / "amazon-beauty-2014"
    options = PrepareOptions(preset="amazon", items=folder / "items.csv.gz")
    report = prepare([folder / "events.csv.gz"], tmp_path / "beauty", options)
    assert (report["users"], report["items"], report["events"]) == (22_363, 12_101, 198_502)
    dataset = Dataset.open(tmp_path / "beauty")
    log = pl.read_csv(folder / "events.csv.gz", infer_schema=False)
    in_file_order = dict(log.group_by("user_id").agg("item_id").iter_rows())
    items, offsets = [item.decode() for item in dataset.items], dataset.histories.offsets.tolist()
    mapped = [items[index - 1] for index in dataset.histories.item.tolist()]
    for user, start, end in zip(dataset.users, offsets[:-1], offsets[1:], strict=True):
        assert mapped[start:end] == in_file_order[user.decode()]
    assert report["item_table"]["title"] == 12_100
    assert report["actions"] == {"purchase": 198_502}


def test_online_retail_is_found_by_its_columns_and_cleaned(shared_datasets: Path, tmp_path: Path) -> None:
    log = shared_datasets / "online-retail-uci" / "online_retail.parquet"
    report = prepare([log], tmp_path / "retail", PrepareOptions())
    dropped = {reason: facts["rows"] for reason, facts in report["dropped"].items()}
    assert report["preset"]["name"] == "online-retail"
    assert dropped["missing field"] == 135_080
    assert dropped["cancellation"] == 8_905
    assert dropped["robot"] == 0
    assert report["rows_read"] == 541_909 == report["events"] + sum(dropped.values())
    assert report["item_table"]["title"] == report["item_table"]["price"] == report["items"]


def test_taobao_is_read_from_its_folder_with_all_four_actions(shared_datasets: Path, tmp_path: Path) -> None:
    report = prepare(
        [shared_datasets / "taobao-userbehavior-2h"], tmp_path / "taobao", PrepareOptions(k_core=1)
    )
    assert report["preset"] == {"name": "taobao", "found_by": "columns"}
    assert report["dropped"]["repeat"]["rows"] == 14
    assert (report["events"], report["users"], report["items"]) == (96_154, 58_732, 75_384)
    assert list(report["actions"]) == ["view", "favourite", "cart", "purchase"]
    assert report["item_table"]["category"] == report["items"]
