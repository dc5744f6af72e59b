"""Reading a log: batches of rows become integer codes, so that an id is held once and not once an event."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from footfall.contract import MAX_ID_BYTES
from footfall.errors import InputError, shortened
from footfall.events import canonical_action
from footfall.times import implausible, why_implausible
from footfall_data.cleaning.dropped import BAD_ROW, BAD_TIME, CANCELLATION, LONG_ID, MISSING, Dropped
from footfall_data.ids import as_text, is_json, join_numbers
from footfall_data.items import ItemFacts
from footfall_data.logs.files import LogFile
from footfall_data.logs.opening import scanning
from footfall_data.logs.presets import Columns
from footfall_data.logs.times import ANY_TIME, TimeFormat, detect_time_format
from footfall_data.logs.units import ORDER, TimeUnit

BATCH_ROWS = 1_000_000
CANCELLING_ACTIONS = ("cancel", "cancellation", "cancelled", "refund", "return")
BLANK = "blank line"
"""Holds nothing, so it is no row; of a bad row a blank line is left, which has been counted (see opening)."""
MOST_LOOKED_AT = 100
DROP_HINT = " (--drop-bad-rows drops and counts such rows)"
CODED_ROLES = ("user", "item", "action")

Progress = Callable[[str, int], None]
"""Called with the name of the step and the events it has done so far."""


@dataclass(frozen=True)
class ReadRules:
    """How rows become events. `strict`: a missing field or an id too long is an error, not a dropped row;
    `drop_bad_rows`: a time that cannot be read is a dropped row, not an error.
    """

    default_action: str
    time_unit: TimeUnit
    time_format: str | None
    strict: bool
    drop_bad_rows: bool
    drop_cancellations: bool


@dataclass(frozen=True)
class Place:
    """Where the rows of one file begin in the count over all files."""

    file: LogFile
    first_row: int

    def row(self, row: int) -> int:
        """The 1-based data row in the file."""
        return row - self.first_row + 1


@dataclass(frozen=True)
class CodedLog:
    """Events as codes into ids. events: user, item, action UInt32, time Int64 (epoch ms, or with `ordered` a place
    in an order), row UInt32 (counted over all files from 0), in log order. users, items, actions: String, the id of
    each code. notes: what a reader must know of the ids.
    """

    events: pl.DataFrame
    users: pl.Series
    items: pl.Series
    actions: pl.Series
    facts: ItemFacts
    places: tuple[Place, ...]
    rows_read: int
    ordered: bool
    notes: list[str]

    def example(self, row: int, values: dict[str, Any]) -> dict[str, Any]:
        """A row as the report shows it: its file, its place there and what it holds."""
        place = next(place for place in reversed(self.places) if place.first_row <= row)
        return _example(place, row, values)


@dataclass
class LogReader:
    """Reads one log, file after file, batch after batch; counts what it drops in `dropped`."""

    columns: Columns
    rules: ReadRules
    dropped: Dropped
    progress: Progress
    facts: ItemFacts = field(default_factory=ItemFacts)
    rows_read: int = 0

    def __post_init__(self) -> None:
        # polars forgets the codes of Categories that no series uses: these empty ones do, between batches.
        self._coded = {role: pl.Series(dtype=pl.Categorical(pl.Categories.random())) for role in CODED_ROLES}
        # Detected once a type, so that every file and batch of a log is read by the same measure.
        self._blank_lines = 0
        self._time_formats: dict[pl.DataType, TimeFormat | None] = {}

    @property
    def _ordered(self) -> bool:
        return self.rules.time_unit == ORDER

    def read(self, files: Sequence[LogFile]) -> CodedLog:
        """Raises InputError where a file is broken or holds a time that does not parse."""
        batches: list[pl.DataFrame] = []
        places: list[Place] = []
        for file in files:
            places.append(Place(file, self.rows_read))
            batches += self._read_file(places[-1])
        num_rows = self.rows_read - self._blank_lines + self.dropped.counts[BAD_ROW]
        if num_rows == 0:
            raise InputError(f"{files[0].path} holds no events: it has a header and no rows")
        events = pl.concat(batches, rechunk=True)
        user, item, action = (self._ids(role, events) for role in CODED_ROLES)
        events, user, said_of_users = join_numbers(events, "user", user)
        events, item, said_of_items = join_numbers(events, "item", item)
        said = said_of_users + said_of_items
        return CodedLog(events, user, item, action, self.facts, tuple(places), num_rows, self._ordered, said)

    def _ids(self, role: str, events: pl.DataFrame) -> pl.Series:
        """The id of each code, String; codes count up from 0."""
        codes = events[role]
        num_codes = 0 if codes.is_empty() else int(np.max(codes.to_numpy())) + 1
        return (
            pl.int_range(num_codes, dtype=pl.UInt32, eager=True)
            .cat.to(self._coded[role].dtype)
            .cast(pl.String)
        )

    def _read_file(self, place: Place) -> list[pl.DataFrame]:
        file, named = place.file, self.columns.named()
        rows = file.scan(named)
        coded = []
        with scanning(file):
            for batch in rows.collect_batches(chunk_size=BATCH_ROWS):
                coded.append(self._code(batch, place))
                self.rows_read += len(batch)
                self.progress("reading", self.rows_read)
        return coded

    def _code(self, batch: pl.DataFrame, place: Place) -> pl.DataFrame:
        """The batch's good rows as codes; the others are counted, with examples."""
        if "action" not in batch.columns:
            batch = batch.with_columns(action=pl.lit(self.rules.default_action))
        path = place.file.path
        texts = [as_text(batch[role], f"the {role} column of {path}").alias(role) for role in CODED_ROLES]
        if place.file.keys:
            for text in texts:
                _check_no_json(text, path)
        time, bad_time = self._times(batch["time"], place)
        rows = batch.with_columns(*texts, time=time)
        rows = rows.with_row_index("row", self.rows_read)
        rows = rows.with_columns(reason=self._reason(rows, bad_time, self._blank(batch, place.file)))
        if rows["reason"].null_count() < len(rows):
            self._drop(rows.with_columns(time=batch["time"]), place)
            rows = rows.filter(pl.col("reason").is_null())
        rows = rows.with_columns(
            pl.col(role).cast(coded.dtype).to_physical() for role, coded in self._coded.items()
        )
        self.facts.add(rows)
        return rows.select("user", "item", "action", "time", "row")

    def _times(self, values: pl.Series, place: Place) -> tuple[pl.Series, pl.Series | None]:
        """Epoch ms (or places in order) Int64, null where missing or bad; and which are bad, None where none is."""
        if values.dtype in (pl.Categorical, pl.Enum, pl.Binary):
            values = values.cast(pl.String, strict=False)
        if values.dtype == pl.String:
            values = values.replace("", None)
        if values.null_count() == len(values):
            return pl.repeat(None, len(values), dtype=pl.Int64, eager=True), None
        if values.dtype not in self._time_formats:
            where = f"the time column {self.columns.time} of {place.file.path}"
            self._time_formats[values.dtype] = detect_time_format(
                values, self.rules.time_unit, self.rules.time_format, where
            )
        time_format = self._time_formats[values.dtype]
        if time_format is None:
            raise self._bad_time(values, values.is_not_null(), place, ANY_TIME)
        time = time_format.read(values)
        unread = time.is_null() & values.is_not_null()
        bad = unread if self._ordered else unread | _implausible(time)
        if not bad.any():
            return time, None
        if not self.rules.drop_bad_rows:
            at = int(bad.arg_max() or 0)
            why = "" if unread[at] else f": {why_implausible(time[at])}"
            raise self._bad_time(values, bad, place, f"{time_format.description}{why}{DROP_HINT}")
        return time.set(bad, None), bad

    def _bad_time(self, values: pl.Series, bad: pl.Series, place: Place, expected: str) -> InputError:
        at = int(bad.arg_max() or 0)
        row = place.row(self.rows_read + at)
        return InputError(
            f"timestamp {shortened(repr(str(values[at])))} in row {row} of {place.file.path} is not {expected}"
        )

    def _blank(self, batch: pl.DataFrame, file: LogFile) -> pl.Series | None:
        """Which rows of a text file hold nothing: lines without a character, or with separators only."""
        from_path = dict(file.partitions)
        columns = [role for role, name in self.columns.named().items() if name not in from_path]
        if not file.is_text or not all(batch[role].null_count() for role in columns):
            return None
        return batch.select(pl.all_horizontal(pl.col(columns).is_null())).to_series()

    def _reason(self, rows: pl.DataFrame, bad_time: pl.Series | None, blank: pl.Series | None) -> pl.Expr:
        """Why a row of `rows` is dropped, String; null where it stays."""
        texts = [pl.col(role) for role in CODED_ROLES]
        empty = [text.is_null() | (text.str.len_bytes() == 0) for text in texts]
        too_long = [text.str.len_bytes() > MAX_ID_BYTES for text in texts]
        reason = (
            pl.when(pl.lit(False) if blank is None else pl.lit(blank))
            .then(pl.lit(BLANK))
            .when(pl.lit(False) if bad_time is None else pl.lit(bad_time))
            .then(pl.lit(BAD_TIME))
            .when(pl.any_horizontal(*empty, pl.col("time").is_null()))
            .then(pl.lit(MISSING))
            .when(pl.any_horizontal(too_long))
            .then(pl.lit(LONG_ID))
        )
        if self.rules.drop_cancellations:
            reason = reason.when(_cancelled(rows)).then(pl.lit(CANCELLATION))
        return reason.otherwise(None)

    def _drop(self, rows: pl.DataFrame, place: Place) -> None:
        """Count the rows that have a reason, the first few as examples; strict reading refuses them."""
        names = self.columns.named()
        for (reason,), group in rows.drop_nulls("reason").group_by("reason", maintain_order=True):
            if reason == BLANK:
                self._blank_lines += len(group)
                continue
            wanted = max(self.dropped.wanted(str(reason)), 1)
            examples = [
                _example(place, row["row"], {role: row[role] for role in names})
                for row in group.head(wanted).to_dicts()
            ]
            if self.rules.strict and reason in (MISSING, LONG_ID):
                raise InputError(
                    f"row {examples[0]['row']} of {place.file.path}: {reason} among {examples[0]['values']}"
                )
            if reason == MISSING:
                for role in (*CODED_ROLES, "time"):
                    empty = (
                        group[role].is_null() if role == "time" else group[role].replace("", None).is_null()
                    )
                    self.dropped.missing[role] = self.dropped.missing.get(role, 0) + int(empty.sum())
            self.dropped.add(str(reason), len(group), examples)


def _check_no_json(ids: pl.Series, path: Path) -> None:
    """Raises InputError for lists and objects of JSON lines, which come as their text."""
    for text in ids.filter(ids.str.contains(r"^[\[{]")).head(MOST_LOOKED_AT):
        if is_json(text):
            raise InputError(
                f"the {ids.name} column of {path} holds {shortened(text)}, expected text or numbers"
            )


def _implausible(time: pl.Series) -> pl.Series:
    """See footfall.times; bool, false where `time` is null."""
    return pl.Series(implausible(time.fill_null(0).to_numpy()))


def _cancelled(rows: pl.DataFrame) -> pl.Expr:
    """A cancelling action, a negative quantity, or an invoice number that starts with C."""
    names = rows["action"].unique().drop_nulls().to_list()
    signs = [pl.col("action").is_in([name for name in names if canonical_action(name) in CANCELLING_ACTIONS])]
    if "quantity" in rows.columns:
        signs.append(pl.col("quantity").cast(pl.Float64, strict=False) < 0)
    if "invoice" in rows.columns:
        signs.append(pl.col("invoice").cast(pl.String).str.starts_with("C"))
    return pl.any_horizontal(signs)


def _example(place: Place, row: int, values: dict[str, Any]) -> dict[str, Any]:
    shown = {role: None if value is None else str(value)[:100] for role, value in values.items()}
    return {"file": place.file.name, "row": place.row(row), "values": shown}
