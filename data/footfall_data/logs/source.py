"""Source: a log whose files are found and whose columns are understood."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from footfall.errors import InputError
from footfall.folder import sha256
from footfall_data.cleaning.dropped import Dropped
from footfall_data.logs.files import LogFile, find_logs, log_file
from footfall_data.logs.opening import Opening
from footfall_data.logs.presets import (
    ROLES,
    Columns,
    FoundBy,
    Preset,
    choose_preset,
    preset_of_columns,
    resolve_columns,
)

ONE_LOG = "the files of one log need the same columns"


@dataclass(frozen=True)
class Source:
    """The log's files and those without a byte, its preset and how that was found, the column of each role, and the
    table of items.
    """

    files: list[LogFile]
    empty: list[LogFile]
    preset: Preset
    found_by: FoundBy
    columns: Columns
    items: LogFile | None
    items_dropped: Dropped

    def files_as_dicts(self) -> list[dict[str, Any]]:
        """Name, size and SHA-256 of each file."""
        return [
            {"name": file.name, "bytes": file.path.stat().st_size, "sha256": sha256(file.path)}
            for file in self.files
        ]


def open_source(
    logs: Sequence[Path], overrides: Mapping[str, str], items: Path | None, opening: Opening
) -> Source:
    """Raises InputError where the files or their columns, or those of the item table, are not as they should be."""
    found_logs = [(file, opening(file)) for file in find_logs(logs)]
    files = [opened for _, opened in found_logs if opened is not None]
    if not files:
        raise InputError(f"{found_logs[0][0].path} is empty: it holds no events")
    preset_name = None if opening.preset is None else opening.preset.name
    first, found = str(files[0].path), files[0].columns()
    preset, found_by = choose_preset(preset_name, overrides, found, first)
    items_dropped = Dropped()
    item_table = None if items is None else replace(opening, dropped=items_dropped)(log_file(items))
    if items is not None and item_table is None:
        raise InputError(f"{items} is empty: it holds no items")
    item_table_columns = [] if item_table is None else item_table.columns()
    columns = resolve_columns(preset, overrides, found, first, item_table_columns)
    for file in files[1:]:
        others = file.columns()
        same = resolve_columns(preset, overrides, others, str(file.path), item_table_columns)
        _check_same(same, columns, str(file.path), first)
        detected = preset_of_columns(others)
        if found_by == "columns" and detected not in (preset, None):
            raise InputError(
                f"{file.path} is a {detected.name} log and {first} a {preset.name} log; {ONE_LOG}"
            )
    empty = [file for file, opened in found_logs if opened is None]
    return Source(files, empty, preset, found_by, columns, item_table, items_dropped)


def _check_same(columns: Columns, expected: Columns, path: str, first: str) -> None:
    """What only some files of a log say would be lost, or made up for the others."""
    for role in ROLES:
        here, there = getattr(columns, role), getattr(expected, role)
        if here != there:
            raise InputError(
                f"{path} has {_named(role, here)} and {first} has {_named(role, there)}; {ONE_LOG}"
            )


def _named(role: str, column: str | None) -> str:
    return f"no {role} column" if column is None else f"the {role} column {column}"
