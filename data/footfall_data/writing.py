"""Writing a data set's files."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from footfall.folder import write_manifest
from footfall.vocabulary import Vocabulary
from footfall_data import splits
from footfall_data.coding import PackedLog
from footfall_data.dataset import KIND, Split
from footfall_data.ids import pack_ids
from footfall_data.logs.source import Source
from footfall_data.parquet import write_parquet


def write_arrays(folder: Path, packed: PackedLog, items: pl.DataFrame, split: Mapping[str, Split]) -> None:
    """Every file of dataset.Dataset but the report and the manifest."""
    histories = packed.histories
    for name in ("item", "action", "time", "offsets"):
        np.save(folder / f"{name}.npy", getattr(histories, name))
    for name, of_users in split.items():
        np.save(folder / f"split_{name}.npy", splits.columns(of_users))
    pack_ids(packed.user_ids).save(folder / "users")
    pack_ids(packed.item_ids).save(folder / "items")
    Vocabulary.from_ids(packed.action_names).save(folder / "actions")
    write_parquet(items, folder / "items.parquet")


def seal_dataset(
    folder: Path,
    report: Mapping[str, Any],
    lineage: str,
    repeat_ms: int,
    options: Mapping[str, Any],
    source: Source,
) -> None:
    """Write the report and the manifest: from here on the folder counts as a data set."""
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    fields = {
        "lineage": lineage,
        "repeat_ms": repeat_ms,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "preset": source.preset.name,
        "columns": source.columns.named(),
        "options": options,
        "source": source.files_as_dicts(),
    }
    write_manifest(folder, KIND, fields)
