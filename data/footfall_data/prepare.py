"""Prepare: from a shop's log to a data set, cleaned, packed and split."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from footfall.errors import InputError
from footfall.folder import written_aside
from footfall.history import HistoryRules
from footfall.times import iso_time
from footfall_data import splits
from footfall_data.cleaning.cleaning import KEPT, MARKS, MINUTE_MS, CleaningRules, mark_dropped
from footfall_data.cleaning.dropped import NUM_EXAMPLES, Dropped
from footfall_data.coding import PackedLog, keep_events, pack_log
from footfall_data.items import complete, no_facts, read_item_table
from footfall_data.lineage import Older, older_of
from footfall_data.logs.opening import Opening
from footfall_data.logs.presets import preset_named
from footfall_data.logs.reading import CodedLog, LogReader, Progress, ReadRules
from footfall_data.logs.source import Source, open_source
from footfall_data.options import PrepareOptions
from footfall_data.report import describe
from footfall_data.writing import seal_dataset, write_arrays


def no_progress(step: str, events: int) -> None:
    """The default `progress` of prepare: silence."""


def prepare(
    logs: Sequence[Path], out: Path, options: PrepareOptions, progress: Progress = no_progress
) -> dict[str, Any]:
    """Write the data set (see dataset.Dataset) of `logs`, files or folders, to `out` and return its report.

    Raises InputError for a log, item table or option that is not what it should be, and for a full disk;
    then, and after a kill, there is no `out`.
    """
    began = time.perf_counter()
    with TemporaryDirectory(prefix="footfall-") as scratch:
        dropped = Dropped()
        source = _open(logs, options, dropped, Path(scratch))
        return _prepare(source, out, options, dropped, progress, began)


def _open(logs: Sequence[Path], options: PrepareOptions, dropped: Dropped, scratch: Path) -> Source:
    preset = None if options.preset is None else preset_named(options.preset)
    opening = Opening(options.encoding, options.drop_bad_rows, preset, scratch, dropped)
    return open_source(logs, options.columns, options.items, opening)


def _prepare(
    source: Source, out: Path, options: PrepareOptions, dropped: Dropped, progress: Progress, began: float
) -> dict[str, Any]:
    older = older_of(options.extend)
    item_table = _read_item_table(source, options)
    with written_aside(out, overwrite=options.overwrite) as folder:
        log = LogReader(source.columns, _read_rules(source, options), dropped, progress).read(source.files)
        rules = _cleaning_rules(log, source, options)
        packed = _clean(log, older, rules, dropped, progress)
        items = complete(_known_items(log, packed, older), item_table)
        split = {
            "leave_one_out": splits.leave_one_out(packed.histories),
            "time": splits.by_time(packed.histories),
        }
        progress("writing", packed.histories.num_events)
        write_arrays(folder, packed, items, split)
        report = {
            "out": out.name,
            **describe(source, log, packed, dropped, items, split),
            "rules": asdict(rules),
        }
        seconds = time.perf_counter() - began
        report |= {"seconds": round(seconds, 3), "events_per_second": round(log.rows_read / seconds)}
        seal_dataset(folder, report, older.lineage, options.repeat_ms, options.as_dict(), source)
    return report


def _read_rules(source: Source, options: PrepareOptions) -> ReadRules:
    return ReadRules(
        default_action=options.action or source.preset.default_action,
        time_unit=options.time_unit,
        time_format=options.time_format,
        strict=options.strict,
        drop_bad_rows=options.drop_bad_rows,
        drop_cancellations=not options.keep_cancellations,
    )


def _cleaning_rules(log: CodedLog, source: Source, options: PrepareOptions) -> CleaningRules:
    """The options completed by the preset; whole minutes or days do not tell a robot from a large order."""
    robot_limit = options.robot_events_per_minute
    if robot_limit is None:
        coarse = log.ordered or (log.events["time"] % MINUTE_MS == 0).all()
        robot_limit = 0 if coarse else source.preset.robot_events_per_minute
    return CleaningRules(HistoryRules(options.repeat_ms), robot_limit, options.k_core)


def _clean(
    log: CodedLog, older: Older, rules: CleaningRules, dropped: Dropped, progress: Progress
) -> PackedLog:
    """The log as clean histories; what is dropped is counted in `dropped`."""
    progress("grouping", log.rows_read)
    if log.events.is_empty():
        raise InputError(_nothing_left(log, dropped))
    packed = pack_log(log, older.item_ids, older.action_names)
    marks = mark_dropped(packed.histories, rules, progress)
    _count_dropped(log, packed, marks, dropped)
    keep = marks == KEPT
    if not keep.any():
        raise InputError(_nothing_left(log, dropped))
    return keep_events(packed, keep, len(older.item_ids), len(older.action_names))


def _nothing_left(log: CodedLog, dropped: Dropped) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.counts.items() if count)
    return f"cleaning leaves none of the log's {log.rows_read:,} events ({reasons}); switch some of it off"


def _count_dropped(log: CodedLog, packed: PackedLog, marks: NDArray[np.uint8], dropped: Dropped) -> None:
    """Examples are the reason's first rows in the log; only these get their ids back."""
    histories = packed.histories
    for mark, reason in enumerate(MARKS):
        if reason is None:
            continue
        at = np.flatnonzero(marks == mark)
        first = at[np.argsort(packed.row[at])[:NUM_EXAMPLES]]
        user = np.searchsorted(histories.offsets, first, side="right") - 1
        examples = [
            log.example(
                int(packed.row[event]),
                {
                    "user": packed.user_ids[int(user_of_event)],
                    "item": packed.item_ids[int(histories.item[event]) - 1],
                    "action": packed.action_names[int(histories.action[event]) - 1],
                    "time": iso_time(histories.time[event]),
                },
            )
            for event, user_of_event in zip(first, user, strict=True)
        ]
        dropped.add(reason, len(at), examples)


def _read_item_table(source: Source, options: PrepareOptions) -> pl.DataFrame:
    if source.items is None:
        return no_facts(pl.Series(dtype=pl.String))
    return read_item_table(source.items, source.preset, options.columns)


def _known_items(log: CodedLog, packed: PackedLog, older: Older) -> pl.DataFrame:
    """One row an item in index order: what the log says of it, else the data set extended."""
    items = complete(no_facts(packed.item_ids), older.item_table)
    return complete(items, log.facts.table(log.items))
