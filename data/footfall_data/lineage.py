"""Lineage: what a data set hands on to the one that extends it."""

import uuid
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from footfall_data.dataset import Dataset
from footfall_data.ids import unpack_ids
from footfall_data.items import no_facts


@dataclass(frozen=True)
class Older:
    """The vocabularies to continue (item ids String, action names, in index order) and the items' facts."""

    lineage: str
    item_ids: pl.Series
    action_names: list[str]
    item_table: pl.DataFrame


def older_of(extend: Path | None) -> Older:
    """Of the data set in `extend`; a new lineage with nothing in it for None. Raises InputError."""
    if extend is None:
        nothing = pl.Series([], dtype=pl.String)
        return Older(uuid.uuid4().hex, nothing, [], no_facts(nothing))
    dataset = Dataset.open(extend)
    return Older(
        dataset.lineage,
        unpack_ids(dataset.items),
        [name.decode() for name in dataset.actions],
        pl.read_parquet(extend / "items.parquet"),
    )
