"""The simulated shop: believable, repeatable, of the size asked for."""

from pathlib import Path

import polars as pl
import pytest
from full_disk import on_a_full_disk

from footfall.errors import InputError
from footfall_data.shop import simulate as simulation
from footfall_data.shop.options import SimulateOptions
from footfall_data.shop.simulate import simulate


def log(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "events")


def test_the_same_seed_gives_the_same_bytes_and_another_another_log(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate(tmp_path / name, SimulateOptions(events=5_000, seed=seed))
    part = "events/part-00000.parquet"
    assert (tmp_path / "a" / part).read_bytes() == (tmp_path / "b" / part).read_bytes()
    assert not log(tmp_path / "a").equals(log(tmp_path / "c"))
    assert (tmp_path / "a" / "items.parquet").read_bytes() == (tmp_path / "b" / "items.parquet").read_bytes()


@pytest.mark.parametrize("events", [1, 7, 1_000, 12_345])
def test_there_are_exactly_as_many_events_as_asked_also_across_slices(
    tmp_path: Path, events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "SLICE_EVENTS", 4_000)
    simulate(tmp_path / "shop", SimulateOptions(events=events))
    assert len(log(tmp_path / "shop")) == events
    assert len(list((tmp_path / "shop" / "events").iterdir())) == -(-events // 4_000)


def test_carts_follow_views_and_purchases_carts(shop: Path) -> None:
    events = log(shop).filter(pl.col("user_id").is_not_null(), ~pl.col("user_id").str.starts_with("robot"))
    count = dict(events["action"].value_counts().iter_rows())
    assert count["view"] > count["cart"] > count["purchase"] > 0
    assert count["favourite"] > 0
    keys = ["user_id", "item_id"]
    first = events.group_by([*keys, "action"]).agg(pl.col("timestamp").min())
    carts, purchases = (first.filter(pl.col("action") == action) for action in ("cart", "purchase"))
    pairs = purchases.join(carts, on=keys, how="left", suffix="_cart")
    assert (pairs["timestamp"] > pairs["timestamp_cart"]).fill_null(False).to_numpy().mean() > 0.99


def test_popularity_is_skewed_and_new_items_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "SLICE_EVENTS", 6_000)
    simulate(tmp_path / "shop", SimulateOptions(events=60_000, items=500, seed=2))
    events = log(tmp_path / "shop")
    counts = events["item_id"].value_counts(sort=True)["count"]
    assert counts.to_numpy()[:50].sum() > 0.4 * counts.to_numpy().sum()
    # Items are numbered in order of arrival; those at hand from the start are the first 70 %.
    times = events["timestamp"].to_numpy()
    newcomers = events.filter(pl.col("item_id") >= "I000450")["timestamp"].to_numpy()
    assert newcomers.min() > times.min() + 0.5 * (times.max() - times.min())


def test_what_follows_an_item_can_be_foretold(shop: Path) -> None:
    views = log(shop).filter(pl.col("action") == "view").sort("user_id", "timestamp", maintain_order=True)
    pairs = views.with_columns(pl.col("item_id").shift(-1).over("user_id").alias("next")).drop_nulls()
    most = (
        pairs.group_by("item_id", "next")
        .len()
        .group_by("item_id")
        .agg(pl.col("len").max(), pl.col("len").sum().alias("all"))
    )
    often = most.filter(pl.col("all") > 30)
    assert (often["len"].to_numpy() / often["all"].to_numpy()).mean() > 0.12


def test_there_are_robots_and_dirty_rows(shop: Path) -> None:
    events = log(shop)
    assert events["user_id"].null_count() > 0
    assert events["user_id"].drop_nulls().str.starts_with("robot").any()
    assert len(events) > len(events.unique())


def test_every_item_has_its_own_title_a_category_and_a_price(shop: Path) -> None:
    items = pl.read_parquet(shop / "items.parquet")
    assert len(items) == 300
    assert items["title"].n_unique() == len(items)
    assert items["price"].min() > 0  # type: ignore[operator]
    assert items["category"].n_unique() > 5
    assert set(log(shop)["item_id"]) <= set(items["item_id"])


def test_nothing_is_overwritten_unasked_and_nonsense_is_refused(shop: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        simulate(shop, SimulateOptions(events=10))
    with pytest.raises(InputError, match="events is 0"):
        SimulateOptions(events=0)
    with pytest.raises(InputError, match="seed is -1"):
        SimulateOptions(seed=-1)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    run = on_a_full_disk(20_000, "simulate", tmp_path / "shop", "--events", "9000")
    assert run.returncode == 1
    assert run.stderr.strip().startswith("footfall: ")
    assert "shop cannot be written, nothing is left of it: File too large" in run.stderr
    assert list(tmp_path.iterdir()) == []
