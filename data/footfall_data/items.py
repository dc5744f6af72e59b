"""The item table: title, category and price of every item, from the log itself and a table of items."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from footfall.errors import InputError
from footfall.events import CATEGORY, ITEM_COLUMNS, ITEM_ID, PRICE, TITLE
from footfall_data.ids import as_text, is_json, without_point, written_as_floats
from footfall_data.logs.files import LogFile
from footfall_data.logs.opening import scanning
from footfall_data.logs.presets import ITEM_TABLE_COLUMNS, Preset, column_list, column_of

TEXTS = (TITLE, CATEGORY)
COMPACT_AFTER = 16


@dataclass
class ItemFacts:
    """What a log's rows say about its items, by item code: commonest title and category, last price.

    Rows add up batch by batch, so memory follows the items and not the events.
    """

    _texts: dict[str, list[pl.DataFrame]] = field(default_factory=lambda: {name: [] for name in TEXTS})
    _prices: list[pl.DataFrame] = field(default_factory=list)

    def add(self, rows: pl.DataFrame) -> None:
        """Count the facts of coded rows: `item` UInt32 and any of title, category, price."""
        for name in TEXTS:
            if name in rows.columns:
                facts = rows.select("item", pl.lit(text_of(rows[name])).alias("value")).drop_nulls()
                self._texts[name].append(facts.group_by("item", "value").len("times"))
                if len(self._texts[name]) >= COMPACT_AFTER:
                    self._texts[name] = [_summed(self._texts[name])]
        if PRICE in rows.columns:
            prices = rows.select("item", pl.lit(price_of(rows[PRICE])).alias(PRICE)).drop_nulls()
            self._prices.append(prices.unique("item", keep="last", maintain_order=True))

    def table(self, ids: pl.Series) -> pl.DataFrame:
        """Columns of ITEM_COLUMNS, one row an item of the log; `ids` String, the id of each code."""
        table = pl.DataFrame({ITEM_ID: ids}).with_row_index("item")
        for facts in (*(self._commonest(name) for name in TEXTS), self._last_prices()):
            table = table.join(facts, on="item", how="left")
        known = pl.col(TITLE, CATEGORY, PRICE).drop_nulls().first()  # an id may have had two codes
        return table.group_by(ITEM_ID, maintain_order=True).agg(known).select(ITEM_COLUMNS)

    def _commonest(self, name: str) -> pl.DataFrame:
        if not self._texts[name]:
            return pl.DataFrame(schema={"item": pl.UInt32, name: pl.String})
        ranked = _summed(self._texts[name]).sort("times", "value", descending=[True, False])
        return ranked.unique("item", keep="first", maintain_order=True).select(
            "item", pl.col("value").alias(name)
        )

    def _last_prices(self) -> pl.DataFrame:
        if not self._prices:
            return pl.DataFrame(schema={"item": pl.UInt32, PRICE: pl.Float64})
        return pl.concat(self._prices).unique("item", keep="last")


def read_item_table(file: LogFile, preset: Preset, overrides: Mapping[str, str]) -> pl.DataFrame:
    """A table of items as item_id, title, category (String) and price (Float64), one row an item.

    Of an item that occurs twice the first row counts. Raises InputError where there is no item column.
    """
    path, found = file.path, file.columns()
    chosen = {
        role: column_of(_names_of(role, preset, overrides), found, str(path)) for role in ITEM_TABLE_COLUMNS
    }
    if chosen["item"] is None:
        raise InputError(
            f"{path} has no item column {' or '.join(ITEM_TABLE_COLUMNS['item'])}; it has {column_list(found)} "
            f"(name it with --item-column)"
        )
    wanted = {role: column for role, column in chosen.items() if column is not None}
    with scanning(file):
        rows = file.scan(wanted).collect()
    rows = rows.filter(~pl.all_horizontal(pl.all().is_null()))
    ids = as_text(rows["item"], f"the item column of {path}")
    return pl.DataFrame(
        {
            ITEM_ID: without_point(ids) if written_as_floats(ids) else ids,
            TITLE: text_of(rows[TITLE]) if TITLE in rows.columns else None,
            CATEGORY: text_of(rows[CATEGORY]) if CATEGORY in rows.columns else None,
            PRICE: price_of(rows[PRICE]) if PRICE in rows.columns else None,
        },
        schema_overrides={TITLE: pl.String, CATEGORY: pl.String, PRICE: pl.Float64},
    ).unique(ITEM_ID, keep="first", maintain_order=True)


def no_facts(ids: pl.Series) -> pl.DataFrame:
    """One row for each of `ids` String, in their order, with nothing known."""
    nothing = {TITLE: pl.String, CATEGORY: pl.String, PRICE: pl.Float64}
    return pl.DataFrame({ITEM_ID: ids}).with_columns(
        pl.lit(None, dtype=kind).alias(name) for name, kind in nothing.items()
    )


def complete(items: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """`items` in their order, each fact from `table` where that knows it, else as it was."""
    joined = items.join(table, on=ITEM_ID, how="left", suffix="_table", maintain_order="left")
    facts = [pl.coalesce(f"{name}_table", name).alias(name) for name in (*TEXTS, PRICE)]
    return joined.select(ITEM_ID, *facts)


def text_of(values: pl.Series) -> pl.Series:
    """Stripped text, null where empty; a list (a path of categories) is joined by " > "."""
    if values.dtype == pl.List(pl.List(pl.String)):
        values = values.list.first()
    if values.dtype == pl.List(pl.String):
        values = values.list.join(" > ")
    if values.dtype == pl.String and values.str.starts_with("[").any():
        listed = {text: _joined(text) for text in values.filter(values.str.starts_with("[")).unique()}
        values = values.replace(listed)
    return as_text(values, values.name).str.strip_chars().replace("", None)


def _joined(text: str) -> str:
    """As text_of does with a list that JSON lines, or a CSV, hold as its text."""
    if not is_json(text):
        return text
    path = json.loads(text)
    path = path[0] if path and isinstance(path[0], list) else path
    return " > ".join(str(part) for part in path)


def price_of(values: pl.Series) -> pl.Series:
    """Float64, null where it is no positive number; currency signs are left out, 1.234,50 and 1,234.50 are 1234.5.

    3 digits behind a comma may be either: such a price is not known.
    """
    if values.dtype == pl.String:
        values = values.str.strip_chars("$€£ ")
        if values.str.contains(",", literal=True).any():
            with_comma = values.str.extract(r"^(\d{1,3}(?:\.?\d{3})*,\d{1,2})$")
            comma = with_comma.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
            point = values.str.extract(r"^(\d{1,3}(?:,\d{3})+\.\d+)$").str.replace_all(",", "", literal=True)
            values = comma.fill_null(point).fill_null(values)
    price = values.cast(pl.Float64, strict=False)
    return price.set(~(price > 0).fill_null(value=False), None)


def _names_of(role: str, preset: Preset, overrides: Mapping[str, str]) -> list[str]:
    """What the role's column may be called in a table of items."""
    named = [overrides[role]] if role in overrides else []
    return [*named, *getattr(preset, role), *ITEM_TABLE_COLUMNS[role]]


def _summed(facts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(facts).group_by("item", "value").agg(pl.col("times").sum())
