"""Source: a log whose files are found and whose columns are understood."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from footfall.folder import sha256
from footfall_training.log import LogFile, find_logs, log_file, with_header
from footfall_training.presets import Columns, FoundBy, Preset, choose_preset, preset_named, resolve_columns


@dataclass(frozen=True)
class Source:
    """The log's files, its preset and how that was found, and the column of each role."""

    files: list[LogFile]
    preset: Preset
    found_by: FoundBy
    columns: Columns

    def files_as_dicts(self) -> list[dict[str, Any]]:
        """Name, size and SHA-256 of each file."""
        return [
            {"name": file.path.name, "bytes": file.path.stat().st_size, "sha256": sha256(file.path)}
            for file in self.files
        ]


def open_source(
    logs: Sequence[Path], preset_name: str | None, overrides: Mapping[str, str], items: Path | None
) -> Source:
    """Raises InputError where the files or their columns, or those of the item table, are not as they should."""
    named = None if preset_name is None else preset_named(preset_name)
    files = [with_header(file, named) for file in find_logs(logs)]
    found = list(files[0].headerless) or files[0].columns()
    preset, found_by = choose_preset(preset_name, overrides, found, str(files[0].path))
    item_table_columns = [] if items is None else log_file(items).columns()
    columns = resolve_columns(preset, overrides, found, str(files[0].path), item_table_columns)
    return Source(files, preset, found_by, columns)
