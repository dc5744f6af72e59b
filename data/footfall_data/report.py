"""The report of `footfall prepare`: what was read, what was dropped and why, what is left."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from footfall.events import CATEGORY, PRICE, TITLE
from footfall.times import iso_time
from footfall_data.cleaning.dropped import Dropped
from footfall_data.coding import PackedLog
from footfall_data.dataset import Split
from footfall_data.logs.reading import CodedLog
from footfall_data.logs.source import Source
from footfall_data.notes import notes, summary

LENGTH_PERCENTILES = (1, 10, 25, 50, 75, 90, 99, 100)


def describe(
    source: Source,
    log: CodedLog,
    packed: PackedLog,
    dropped: Dropped,
    items: pl.DataFrame,
    split: Mapping[str, Split],
) -> dict[str, Any]:
    """The report but for how long it took."""
    histories = packed.histories
    counts = np.bincount(histories.action, minlength=len(packed.action_names) + 1)[1:]
    return {
        "summary": summary(log.rows_read, histories.num_events, dropped),
        "notes": [*log.notes, *notes(source, dropped, packed, log.rows_read)],
        "preset": {"name": source.preset.name, "found_by": source.found_by},
        "columns": source.columns.named(),
        "files": [file.name for file in source.files],
        "empty_files": [file.name for file in source.empty],
        "rows_read": log.rows_read,
        "dropped": dropped.as_dict(),
        "events": histories.num_events,
        "users": histories.num_users,
        "items": len(packed.item_ids),
        "actions": dict(zip(packed.action_names, counts.tolist(), strict=True)),
        "lengths": length_summary(histories.lengths),
        "time_span": {
            "first": iso_time(histories.time.min()),
            "last": iso_time(histories.time.max()),
        },
        "item_table": {name: items[name].count() for name in (TITLE, CATEGORY, PRICE)},
        "splits": {
            name: {
                "validation_users": int((of_users.validation_at >= 0).sum()),
                "test_users": int((of_users.test_at >= 0).sum()),
            }
            for name, of_users in split.items()
        },
    }


def length_summary(lengths: NDArray[np.int64]) -> dict[str, float]:
    """Shortest, mean and percentiles (nearest rank below) of history lengths int64 [users]."""
    levels = np.percentile(lengths, LENGTH_PERCENTILES, method="lower")
    summary = {"min": float(lengths.min()), "mean": round(float(lengths.mean()), 2)}
    return summary | {f"p{p}": float(level) for p, level in zip(LENGTH_PERCENTILES, levels, strict=True)}


def preset_line(report: Mapping[str, Any]) -> str:
    """Such as: online-retail (from its columns)."""
    preset = report["preset"]
    return f"{preset['name']} ({'by option' if preset['found_by'] == 'option' else 'from its columns'})"


def render(report: Mapping[str, Any]) -> str:
    """The report as text for people."""
    console = Console(width=110, highlight=False)
    with console.capture() as capture:
        for line in (report["summary"], *(f"note: {note}" for note in report["notes"])):
            console.print(line, soft_wrap=True, markup=False)
        console.print(_summary(report))
        console.print(_dropped(report["dropped"], report["rows_read"]))
    return capture.get().rstrip()


def _summary(report: Mapping[str, Any]) -> Table:
    table = Table("", "", show_header=False, title=f"data set {report['out']}", title_justify="left")
    lengths, span, items = report["lengths"], report["time_span"], report["item_table"]
    actions = ", ".join(f"{name} {count:,}" for name, count in report["actions"].items())
    table.add_row("preset", preset_line(report))
    table.add_row("rows read", f"{report['rows_read']:,} from {len(report['files'])} file(s)")
    table.add_row("cleaning", _rules_line(report["rules"]))
    table.add_row("events kept", f"{report['events']:,}")
    table.add_row("users", f"{report['users']:,}")
    table.add_row("items", f"{report['items']:,}")
    table.add_row("actions", actions)
    table.add_row("history length", "  ".join(f"{name} {value:g}" for name, value in lengths.items()))
    known = span["first"] is not None
    table.add_row("time span", f"{span['first']} .. {span['last']}" if known else "unknown: an order column")
    table.add_row("items with", ", ".join(f"{name} {count:,}" for name, count in items.items()))
    table.add_row("splits", "; ".join(_split_line(name, facts) for name, facts in report["splits"].items()))
    table.add_row("speed", f"{report['seconds']:.1f} s, {report['events_per_second']:,} events/s")
    return table


def _rules_line(rules: Mapping[str, Any]) -> str:
    repeat_ms, robots, k = rules["history"]["repeat_ms"], rules["robot_events_per_minute"], rules["k_core"]
    repeats = "repeats kept" if repeat_ms < 0 else f"repeats within {repeat_ms / 1000:g} s dropped"
    return f"{repeats}; robots {f'over {robots} events a minute' if robots else 'not looked for'}; {k}-core"


def _split_line(name: str, facts: Mapping[str, Any]) -> str:
    return f"{name}: {facts['validation_users']:,} users validate, {facts['test_users']:,} test"


def _dropped(dropped: Mapping[str, Any], rows_read: int) -> Table:
    table = Table("dropped because", "rows", "share", "examples", title_justify="left")
    for reason, facts in dropped.items():
        examples = "\n".join(_example_line(example) for example in facts["examples"])
        share = f"{facts['rows'] / max(rows_read, 1):.2%}"
        table.add_row(reason, f"{facts['rows']:,}", share, examples)
    return table


def _example_line(example: Mapping[str, Any]) -> str:
    values = ", ".join("(none)" if value is None else str(value) for value in example["values"].values())
    return f"row {example['row']} of {example['file']}: {values[:100]}"
