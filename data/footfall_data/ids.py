"""Ids: columns of any type as text, and text as a Vocabulary without a Python object an id."""

import json

import numpy as np
import polars as pl

from footfall.errors import InputError
from footfall.packed import offsets_of
from footfall.vocabulary import Vocabulary

JOIN_ROWS = 1_000_000
EXACT = 2**53
"""A Float64 holds whole numbers up to here, each by itself."""


def as_text(values: pl.Series, what: str) -> pl.Series:
    """The values as String; of floats and decimals each whole number (17850.0, as pandas writes ids) loses the ".0",
    whatever the others are, so that an id is one text in every batch and file.

    Raises InputError, naming `what`, for lists, structs and other types that are no id.
    """
    if values.dtype == pl.String:
        return values
    if values.dtype.is_float():
        values = values.fill_nan(None)
        if (values.abs() > EXACT).any():
            raise InputError(
                f"{what} holds {values.dtype} beyond 2**53, where neighbouring ids have become one: "
                "write the ids as integers or text"
            )
        whole = values.cast(pl.Int64, strict=False)
        is_whole = (whole == values).fill_null(value=False)
        return whole.cast(pl.String).zip_with(is_whole, values.cast(pl.String))
    try:
        if values.dtype.is_nested() or values.dtype in (pl.Object, pl.Duration, pl.Time):
            raise InputError(f"{what} holds {values.dtype}, expected text or numbers")
        text = values.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{what} holds {values.dtype} that is no text, expected text or numbers") from error
    return text.str.replace(r"\.0+$", "") if values.dtype.is_decimal() else text


def written_as_floats(ids: pl.Series) -> bool:
    """Whether all of `ids` String are whole numbers and some have a ".0", as a column of numbers with gaps has."""
    return bool(ids.str.ends_with(".0").any()) and bool(ids.str.contains(r"^-?\d+(\.0)?$").all())


def without_point(ids: pl.Series) -> pl.Series:
    """String; 17850.0 becomes 17850."""
    return ids.str.strip_suffix(".0")


def join_numbers(
    events: pl.DataFrame, role: str, ids: pl.Series
) -> tuple[pl.DataFrame, pl.Series, list[str]]:
    """Events and ids where a column of whole numbers holds 12 and 12.0, each with a code (see reading.CodedLog): both
    become 12. And a sentence on what was done or, where other ids are no whole numbers, left.
    """
    pointed = ids.filter(ids.str.ends_with(".0"))
    plain = without_point(ids)
    if not written_as_floats(ids):
        both = pointed.filter(without_point(pointed).is_in(ids.implode()))
        said = (
            [f"{role} ids such as {without_point(both)[0]} and {both[0]} are two {role}s"]
            if len(both)
            else []
        )
        return events, ids, said
    first = pl.DataFrame({"id": plain}).with_row_index("code").select(pl.col("code").min().over("id"))["code"]
    said = [
        f"{role} ids are whole numbers, some written as {pointed[0]}: read as {without_point(pointed)[0]}"
    ]
    return events.with_columns(first.gather(events[role]).alias(role)), plain, said


def is_json(text: str) -> bool:
    """Whether it is a list or an object of JSON."""
    try:
        return isinstance(json.loads(text), list | dict)
    except (ValueError, RecursionError):
        return False


def pack_ids(ids: pl.Series) -> Vocabulary:
    """The vocabulary of `ids` String [ids], each different, in their order."""
    lengths = ids.str.len_bytes().cast(pl.Int64).to_numpy()
    # In slices, because one joined text would hold all ids a second time.
    slices = [ids.slice(at, JOIN_ROWS).str.join("").item() for at in range(0, len(ids), JOIN_ROWS)]
    values = np.frombuffer(b"".join(text.encode() for text in slices), dtype=np.uint8)
    return Vocabulary(values, offsets_of(lengths))


def unpack_ids(vocabulary: Vocabulary) -> pl.Series:
    """The vocabulary's ids as String, in index order."""
    return pl.Series([id_.decode() for id_ in vocabulary], dtype=pl.String)
