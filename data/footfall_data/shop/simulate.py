"""Simulation: the event log of a shop one can believe, of any size, written as it is made.

Visits of users whose tastes drift; within a visit each item tends to be followed by what goes with it, views by
carts and purchases; new items arrive; a few robots and dirty rows. A slice of time is drawn at once, so memory
does not grow with the log.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from footfall.folder import written_aside
from footfall_data.parquet import write_parquet
from footfall_data.shop.catalogue import NOUNS, NUM_FOLLOWERS, Catalogue, Shelves
from footfall_data.shop.options import SimulateOptions

START_MS = 1_735_689_600_000  # 2025-01-01T00:00Z
DAY_MS = 86_400_000
SLICE_EVENTS = 500_000
EVENTS_PER_VISIT = 5.15
"""Measured; a slice draws a few standard errors more and cuts what is over."""
NUM_TASTES = 3
TASTE_DAYS = 30
MAX_STEPS = 24
STEP_S = 40.0
TASTE_SHARE, FOLLOW_SHARE, STAY_SHARE = 0.9, 0.6, 0.75
FAVOURITE_SHARE, CART_SHARE, PURCHASE_SHARE = 0.04, 0.14, 0.45
NUM_ROBOTS = 3
ROBOT_SHARE, ROBOT_GAP_MS = 0.004, 400
REPEAT_SHARE, DUPLICATE_SHARE, MISSING_SHARE = 0.003, 0.002, 0.001
ACTIONS = ("view", "favourite", "cart", "purchase")
Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def simulate(
    out: Path,
    options: SimulateOptions,
    *,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda events: None,
) -> dict[str, Any]:
    """Write out/events/part-*.parquet (user_id, item_id, action, timestamp ms; oldest first) and out/items.parquet.

    The same options give the same bytes. `advance` is told of the events written. Returns what was made.
    """
    catalogue = Catalogue.draw(options.num_items, np.random.default_rng(options.seed))
    names = pl.Series(
        [f"U{number:08d}" for number in range(options.num_users)]
        + [f"robot-{number}" for number in range(NUM_ROBOTS)]
    )
    num_slices = -(-options.events // SLICE_EVENTS)
    with written_aside(out, overwrite=overwrite) as folder:
        (folder / "events").mkdir()
        write_parquet(catalogue.table(), folder / "items.parquet")
        for number in range(num_slices):
            count = min(SLICE_EVENTS, options.events - number * SLICE_EVENTS)
            columns = _slice(options, catalogue, number, num_slices, count)
            frame = _frame(columns, names, catalogue.item_ids(), (options.seed, number))
            write_parquet(frame, folder / "events" / f"part-{number:05d}.parquet", compression="lz4")
            advance(count)
    return {
        "events": options.events,
        "users": options.num_users,
        "items": options.num_items,
        "log": os.fspath(out / "events"),
        "item_table": os.fspath(out / "items.parquet"),
    }


def _slice(
    options: SimulateOptions, catalogue: Catalogue, number: int, num_slices: int, count: int
) -> Columns:
    """User, item, action and time of `count` events of one slice of the span, in time order."""
    random = np.random.default_rng((options.seed, number, 1))
    expected = count * (1 - ROBOT_SHARE) / EVENTS_PER_VISIT
    num_visits = int(expected + 5 * np.sqrt(expected)) + 8
    begin, end = number / num_slices, (number + 1) / num_slices
    time = (START_MS + options.days * DAY_MS * np.sort(random.uniform(begin, end, num_visits))).astype(
        np.int64
    )
    # Activity falls off like rank ** (-1 / 3): few users come often.
    user = (options.num_users * random.random(num_visits) ** 1.5).astype(np.int64)
    shelves = catalogue.on_offer(begin)
    parts = [*_visits(user, time, catalogue, shelves, random), _robots(options, count, time, shelves, random)]
    user_of, item, action, at = (np.concatenate([part[column] for part in parts]) for column in range(4))
    first = np.argsort(at, kind="stable")[:count]
    assert len(first) == count
    return _dirty((user_of[first], item[first], action[first], at[first]), random)


def _visits(
    user: NDArray[np.int64],
    time: NDArray[np.int64],
    catalogue: Catalogue,
    shelves: Shelves,
    random: np.random.Generator,
) -> list[Columns]:
    """Every visit step by step: look at an item, perhaps keep, cart or buy it, go on to what goes with it."""
    parts: list[Columns] = []
    eager = 0.5 + 1.5 * _hash(user, 7)  # some users buy more than others
    category = _taste(user, time, random)
    item = shelves.pick(category, random.random(len(user)))
    for _ in range(MAX_STEPS):
        parts += _actions(user, item, time, eager, random)
        stays = random.random(len(user)) < STAY_SHARE
        user, time, item, category = user[stays], time[stays], item[stays], category[stays]
        eager = eager[stays]
        if not len(user):
            break
        time = time + (1000 * (3 + random.exponential(STEP_S, len(user)))).astype(np.int64)
        follower = catalogue.follower[item, random.integers(NUM_FOLLOWERS, size=len(user))]
        follows = (random.random(len(user)) < FOLLOW_SHARE) & (follower < len(shelves))
        item = np.where(follows, follower, shelves.pick(category, random.random(len(user))))
    return parts


def _actions(
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    time: NDArray[np.int64],
    eager: NDArray[np.float64],
    random: np.random.Generator,
) -> list[Columns]:
    """The view of each item and what came of it; a purchase needs a cart."""
    chance = random.random(len(user))
    favours = chance > 1 - FAVOURITE_SHARE
    carts = chance < CART_SHARE * eager
    buys = chance < CART_SHARE * PURCHASE_SHARE * eager
    views = np.ones(len(user), dtype=bool)
    chosen = ((views, 0), (favours, 9_000), (carts, 20_000), (buys, 120_000))
    return [
        (user[mask], item[mask], np.full(mask.sum(), action), time[mask] + delay_ms)
        for action, (mask, delay_ms) in enumerate(chosen)
    ]


def _taste(
    user: NDArray[np.int64], time: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """A category the user likes at the time; each taste changes every TASTE_DAYS, at the user's own moment."""
    slot = random.integers(NUM_TASTES, size=len(user))
    days = (time - START_MS) / DAY_MS
    epoch = np.floor(days / (TASTE_DAYS * (slot + 1)) + _hash(user, 3)).astype(np.int64)
    liked = (_hash(user * NUM_TASTES + slot, 11 + epoch) * len(NOUNS)).astype(np.int64)
    anything = random.integers(len(NOUNS), size=len(user))
    return np.where(random.random(len(user)) < TASTE_SHARE, liked, anything)


def _robots(
    options: SimulateOptions,
    count: int,
    time: NDArray[np.int64],
    shelves: Shelves,
    random: np.random.Generator,
) -> Columns:
    """Bursts of views faster than any person's."""
    number = int(count * ROBOT_SHARE)
    robot = options.num_users + random.integers(NUM_ROBOTS)
    start = time[len(time) // 2]
    item = shelves.item[random.integers(len(shelves), size=number)]
    return np.full(number, robot), item, np.zeros(number, np.int64), start + ROBOT_GAP_MS * np.arange(number)


def _dirty(columns: Columns, random: np.random.Generator) -> Columns:
    """Turn some rows into duplicates and quick repeats of the one before."""
    user, item, action, time = columns
    chance = random.random(len(user))
    copied = np.flatnonzero(chance < DUPLICATE_SHARE + REPEAT_SHARE)
    copied = copied[copied > 0]
    late_ms = np.where(chance[copied] < DUPLICATE_SHARE, 0, 1_500)
    for column in (user, item, action):
        column[copied] = column[copied - 1]
    time[copied] = time[copied - 1] + late_ms
    return user, item, action, time


def _frame(columns: Columns, names: pl.Series, items: pl.Series, seed: tuple[int, int]) -> pl.DataFrame:
    user, item, action, time = columns
    missing = np.random.default_rng((*seed, 2)).random(len(user)) < MISSING_SHARE
    return pl.DataFrame(
        {
            "user_id": names.gather(user).zip_with(pl.Series(~missing), pl.Series([None], dtype=pl.String)),
            "item_id": items.gather(item),
            "action": pl.Series(ACTIONS).gather(action),
            "timestamp": time,
        }
    )


def _hash(values: NDArray[np.int64], salt: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """A number in [0, 1) that depends on the value and the salt alone (splitmix64's finaliser)."""
    with np.errstate(over="ignore"):
        mixed = values.astype(np.uint64) + np.asarray(salt).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    share: NDArray[np.float64] = (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    return share
