"""Coding: from a log's arbitrary codes to vocabulary indices, and from log order to packed histories."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from footfall.contract import MAX_ACTIONS, PADDING_INDEX, UNKNOWN_TIME
from footfall.errors import InputError, shortened
from footfall.events import FUNNEL, canonical_action
from footfall.history import Histories, select
from footfall.packed import offsets_of
from footfall_data.logs.reading import CodedLog


@dataclass(frozen=True)
class PackedLog:
    """A log as histories in time order (ties in log order).

    row uint32 [events]: each event's row in the log, counted from 0. user_ids, item_ids: String, in order of
    first appearance in time; items of an older data set come first. Item index i is item_ids[i - 1], action
    index a is action_names[a - 1].
    """

    histories: Histories
    row: NDArray[np.uint32]
    user_ids: pl.Series
    item_ids: pl.Series
    action_names: list[str]


def pack_log(log: CodedLog, older_items: pl.Series, older_actions: Sequence[str]) -> PackedLog:
    """Group the log's events by user; older ids keep their indices. Raises InputError: too many actions."""
    events = log.events if log.events["time"].is_sorted() else log.events.sort("time", maintain_order=True)
    user_codes = events["user"].unique(maintain_order=True)
    item_ids, item_of_code = _extend(older_items, log.items, events["item"].unique(maintain_order=True))
    action_names, action_of_code = _code_actions(log.actions.to_list(), older_actions)
    user_of_code = _places(user_codes, len(log.users))
    grouped = events.select(
        user=pl.Series(user_of_code[events["user"].to_numpy()]),
        item=pl.Series(item_of_code[events["item"].to_numpy()]),
        action=pl.Series(action_of_code[events["action"].to_numpy()]),
        time="time",
        row="row",
    ).sort("user", maintain_order=True)
    lengths = np.bincount(grouped["user"].to_numpy(), minlength=len(user_codes) + 1)[1:]
    offsets = offsets_of(lengths)
    item, action, time, row = (grouped[name].to_numpy() for name in ("item", "action", "time", "row"))
    if log.ordered:  # a place in an order is no time: nothing may be counted from it
        time = np.full(len(time), UNKNOWN_TIME)
    histories = Histories(item, action, time, offsets)
    return PackedLog(histories, row, log.users.gather(user_codes), item_ids, action_names)


def keep_events(
    packed: PackedLog, keep: NDArray[np.bool_], num_older_items: int, num_older_actions: int
) -> PackedLog:
    """Only the events where `keep` (bool [events]) holds, without the users, items and actions that are left
    with none; older items and actions stay.
    """
    kept = select(packed.histories, keep)
    item, used_items = _close_gaps(kept.item, len(packed.item_ids), num_older_items)
    action, used_actions = _close_gaps(kept.action, len(packed.action_names), num_older_actions)
    has_events = kept.lengths > 0
    offsets = np.concatenate([np.zeros(1, np.int64), kept.offsets[1:][has_events]])
    return PackedLog(
        Histories(item, action, kept.time, offsets),
        packed.row[keep],
        packed.user_ids.filter(pl.Series(has_events)),
        packed.item_ids.filter(pl.Series(used_items)),
        [name for name, used in zip(packed.action_names, used_actions, strict=True) if used],
    )


def _extend(older: pl.Series, ids: pl.Series, codes: pl.Series) -> tuple[pl.Series, NDArray[np.int32]]:
    """`older` ids, then the other ids of `codes`; and the index of every code, int32 [ids]."""
    known = pl.DataFrame({"id": older}).with_row_index("index", offset=1)
    index = pl.DataFrame({"id": ids}).join(known, on="id", how="left", maintain_order="left")["index"]
    index_of_code = index.fill_null(PADDING_INDEX).cast(pl.Int32).to_numpy().copy()
    new = codes.filter(pl.Series(index_of_code[codes.to_numpy()] == PADDING_INDEX))
    index_of_code[new.to_numpy()] = np.arange(len(older) + 1, len(older) + len(new) + 1)
    return pl.concat([older, ids.gather(new).rename(older.name)]), index_of_code


def _places(codes: pl.Series, num_codes: int) -> NDArray[np.int32]:
    """Code -> its place in `codes`, counted from 1; int32 [num_codes]."""
    place = np.zeros(num_codes, dtype=np.int32)
    place[codes.to_numpy()] = np.arange(1, len(codes) + 1)
    return place


def _code_actions(found: Sequence[str], older: Sequence[str]) -> tuple[list[str], NDArray[np.uint8]]:
    """Action names in index order (older, then along the funnel, then by name); the index of every code."""
    canonical = [canonical_action(name) for name in found]
    new = set(canonical) - set(older)
    names = [*older, *(name for name in FUNNEL if name in new), *sorted(new - set(FUNNEL))]
    if len(names) > MAX_ACTIONS:
        raise InputError(
            f"the action column holds {len(names)} different actions such as {shortened(repr(names[-1]))}, at most "
            f"{MAX_ACTIONS} are possible; name another column with --action-column"
        )
    index = {name: at for at, name in enumerate(names, start=1)}
    return names, np.array([index[name] for name in canonical], dtype=np.uint8)


def _close_gaps(values: NDArray[Any], count: int, num_older: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Renumber indices 1..count without the unused, the first `num_older` always used; used, bool [count]."""
    used = np.bincount(values, minlength=count + 1)[1:] > 0
    used[:num_older] = True
    new_index = np.concatenate([np.zeros(1, np.int64), np.cumsum(used)]).astype(values.dtype)
    return new_index[values], used
