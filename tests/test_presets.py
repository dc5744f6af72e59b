"""Presets: a known shop's log is recognised by its columns and read as the events it holds."""

import gzip
import json
from pathlib import Path

import pytest

from footfall.errors import InputError
from footfall_data.dataset import Dataset
from footfall_data.logs.presets import PRESETS, preset_of_columns
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare

SECOND = 1_511_658_000
MS = SECOND * 1000

# file name, its text, the preset it must be read by, its events as (user, item, action, time in ms)
KNOWN_LOGS = {
    "retailrocket": (
        "events.csv",
        "timestamp,visitorid,event,itemid,transactionid\n"
        f"{MS},257597,view,355908,\n{MS + 7},992329,transaction,248676,4000\n{MS + 9},992329,addtocart,1,\n",
        "retailrocket",
        [("257597", "355908", "view", MS), ("992329", "248676", "purchase", MS + 7), ("992329", "1", "cart", MS + 9)],
    ),
    "taobao": (
        "events.csv",
        f"user_id,item_id,category_id,behavior,timestamp\n1,2,3,pv,{SECOND}\n1,4,3,fav,{SECOND + 9}\n",
        "taobao",
        [("1", "2", "view", MS), ("1", "4", "favourite", MS + 9_000)],
    ),
    "taobao without a header": (
        "UserBehavior.csv",
        f"1,2,3,pv,{SECOND}\n1,4,3,buy,{SECOND + 9}\n",
        "taobao",
        [("1", "2", "view", MS), ("1", "4", "purchase", MS + 9_000)],
    ),
    "movielens ratings.csv": (
        "ratings.csv",
        f"userId,movieId,rating,timestamp\n1,31,2.5,{SECOND}\n1,7,4,{SECOND + 2}\n",
        "movielens",
        [("1", "31", "view", MS), ("1", "7", "view", MS + 2_000)],
    ),
    "movielens .inter": (
        "ml-100k.inter",
        f"user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t{SECOND}\n",
        "movielens",
        [("196", "242", "view", MS)],
    ),
    "movielens u.data": (
        "u.data",
        f"196\t242\t3\t{SECOND}\n186\t302\t3\t{SECOND + 1}\n",
        "movielens",
        [("196", "242", "view", MS), ("186", "302", "view", MS + 1_000)],
    ),
    "amazon reviews": (
        "reviews_Beauty_5.json",
        json.dumps({"reviewerID": "A1", "asin": "B7", "overall": 5.0, "unixReviewTime": SECOND, "title": "Nice"}),
        "amazon",
        [("A1", "B7", "purchase", MS)],
    ),
    "amazon reviews of 2023": (
        "All_Beauty.csv",
        f"user_id,parent_asin,rating,timestamp\nA1,B7,5.0,{MS}\n",
        "amazon",
        [("A1", "B7", "purchase", MS)],
    ),
    "amazon ratings without a header": (
        "ratings_Beauty.csv",
        f"A1,B7,5.0,{SECOND}\nA1,B8,5.0,{SECOND}\n",
        "amazon",
        [("A1", "B7", "purchase", MS), ("A1", "B8", "purchase", MS)],
    ),
    "online retail": (
        "data.csv",
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,HOLDER,6,11/26/2017 1:00,2.55,17850,United Kingdom\n"
        "C536366,85123A,HOLDER,-6,11/26/2017 1:01,2.55,17850,United Kingdom\n"
        "536367,71053,LANTERN,-1,11/26/2017 1:02,2.55,17850,United Kingdom\n",
        "online-retail",
        [("17850", "85123A", "purchase", MS)],
    ),
    "footfall": (
        "events.csv",
        f"user_id,item_id,action,timestamp\nu,i,View,{MS}\n",
        "footfall",
        [("u", "i", "view", MS)],
    ),
}  # fmt: skip


def events_of(dataset: Dataset) -> list[tuple[str, str, str, int]]:
    """Every event by its names, in the data set's order."""
    users = [user.decode() for user in dataset.users]
    histories = dataset.histories
    events = []
    for user, (start, end) in enumerate(zip(histories.offsets[:-1], histories.offsets[1:], strict=True)):
        for at in range(start, end):
            item = dataset.items.id(int(histories.item[at])).decode()
            action = dataset.actions.id(int(histories.action[at])).decode()
            events.append((users[user], item, action, int(histories.time[at])))
    return events


@pytest.mark.parametrize("log", KNOWN_LOGS)
def test_a_known_log_is_recognised_and_read(log: str, tmp_path: Path) -> None:
    name, text, preset, events = KNOWN_LOGS[log]
    path = tmp_path / name
    path.write_text(text)
    report = prepare([path], tmp_path / "out", PrepareOptions(k_core=1))
    assert report["preset"] == {"name": preset, "found_by": "columns"}
    assert events_of(Dataset.open(tmp_path / "out")) == events


@pytest.mark.parametrize("log", KNOWN_LOGS)
def test_naming_the_preset_reads_the_same_as_finding_it(log: str, tmp_path: Path) -> None:
    name, text, preset, events = KNOWN_LOGS[log]
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(text.encode()))
    report = prepare([path], tmp_path / "out", PrepareOptions(preset=preset, k_core=1))
    assert report["preset"] == {"name": preset, "found_by": "option"}
    assert events_of(Dataset.open(tmp_path / "out")) == events


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown preset 'ebay'; there are retailrocket, online-retail"):
        PrepareOptions(preset="ebay")


def test_every_preset_is_told_by_its_own_signature() -> None:
    for preset in PRESETS:
        for signature in preset.signatures:
            assert preset_of_columns(sorted(signature)) is preset


def test_column_options_read_a_log_no_preset_knows(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"who,what,did,when\nu,i,buy,{MS}\n")
    columns = {"user": "who", "item": "what", "action": "did", "time": "when"}
    report = prepare([path], tmp_path / "out", PrepareOptions(columns=columns, k_core=1))
    assert report["columns"] == columns
    assert events_of(Dataset.open(tmp_path / "out")) == [("u", "i", "purchase", MS)]


def test_a_column_option_overrides_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,family_id,timestamp\nu,i,f,{MS}\n")
    prepare([path], tmp_path / "out", PrepareOptions(columns={"item": "family_id"}, k_core=1))
    assert events_of(Dataset.open(tmp_path / "out")) == [("u", "f", "view", MS)]


def test_a_column_option_that_is_not_there_is_refused_with_the_columns_found(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp\nu,i,1700000005\n")
    with pytest.raises(InputError, match=r"no item column sku; it has user_id, item_id, timestamp"):
        prepare([path], tmp_path / "out", PrepareOptions(columns={"item": "sku"}))


def test_a_log_without_actions_gets_the_action_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,timestamp\nu,i,{MS}\n")
    prepare([path], tmp_path / "out", PrepareOptions(action="purchase", k_core=1))
    assert events_of(Dataset.open(tmp_path / "out")) == [("u", "i", "purchase", MS)]
