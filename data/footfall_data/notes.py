"""Notes: the first lines of a report, what a reader must know before the figures: nothing is lost unsaid."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from footfall.contract import UNKNOWN_TIME
from footfall.history import Histories
from footfall.times import iso_time
from footfall_data.cleaning.dropped import BAD_ROW, DUPLICATE, MISSING, REPEAT, Dropped
from footfall_data.coding import PackedLog
from footfall_data.logs.source import Source

SOME = 0.01
"""Share of the rows from which on repeats are more than a tracker that fires twice now and then."""
NOTHINGS = ("null", "none", "nan", "na", "n/a", "<na>", "\\n", "undefined", "nil")
UNITS_MS = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1000))
OLDEST = 631_152_000_000
"""1990, in epoch ms."""


def summary(rows_read: int, events: int, dropped: Dropped) -> str:
    """Such as: 72 rows read, 71 events kept; dropped: unreadable time 1 (1.39%)."""
    lost = [
        f"{reason} {count:,} ({count / rows_read:.2%})" for reason, count in dropped.counts.items() if count
    ]
    return f"{rows_read:,} rows read, {events:,} events kept; dropped: {', '.join(lost) or 'none'}"


def notes(source: Source, dropped: Dropped, packed: PackedLog, rows_read: int) -> list[str]:
    """A sentence each for what was left out or merged and for what is unusual; none for an ordinary log."""
    histories = packed.histories
    items = np.bincount(histories.item, minlength=len(packed.item_ids) + 1)[1:]
    found = _nobodies("user", packed.user_ids, histories.lengths) + _nobodies("item", packed.item_ids, items)
    if dropped.counts[MISSING]:
        found.append(f"missing fields by column: {_counted(dropped.missing)}")
    if source.empty:
        names = ", ".join(file.name for file in source.empty[:3])
        found.append(f"{len(source.empty)} file(s) without a byte are left out: {names}")
    if bad := source.items_dropped.counts[BAD_ROW]:
        found.append(f"{bad:,} rows of the item table cannot be read and are left out")
    if (histories.time == UNKNOWN_TIME).all():
        found.append("the time column is an order: no gaps in time are known and nobody is in the time split")
        return found
    repeated = dropped.counts[DUPLICATE] + dropped.counts[REPEAT]
    if repeated > SOME * rows_read:
        unit = next((name for name, ms in UNITS_MS if not np.any(histories.time % ms)), None)
        why = f"; times are whole {unit}s, so who comes back within one repeats" if unit else ""
        found.append(
            f"{repeated:,} rows are the same user, item and action again{why} (--repeat-seconds -1 keeps them)"
        )
    return found + _odd_times(histories)


def _nobodies(role: str, ids: pl.Series, events: NDArray[np.int64]) -> list[str]:
    """Ids that a database or pandas writes for a missing value."""
    at = np.flatnonzero(ids.str.to_lowercase().is_in(NOTHINGS).to_numpy())
    return [
        f"{events[place]:,} events are of a {role} called {ids[int(place)]}, which may stand for none"
        for place in at
    ]


def _odd_times(histories: Histories) -> list[str]:
    now = datetime.now(UTC).timestamp() * 1000
    early, late = int((histories.time < OLDEST).sum()), int((histories.time > now).sum())
    found = []
    if early:
        found.append(f"{early:,} events lie before 1990, the first at {iso_time(histories.time.min())}")
    if late:
        found.append(f"{late:,} events lie in the future, the last at {iso_time(histories.time.max())}")
    return found


def _counted(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
