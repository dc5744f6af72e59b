"""Ids: columns of any type as text, and text as a Vocabulary without a Python object an id."""

import json

import numpy as np
import polars as pl

from footfall.errors import InputError
from footfall.vocabulary import Vocabulary

JOIN_ROWS = 1_000_000


def as_text(values: pl.Series, what: str) -> pl.Series:
    """The values as String; floats that hold whole numbers (17850.0, as pandas writes ids) lose the ".0".

    Raises InputError, naming `what`, for lists, structs and other types that are no id.
    """
    if values.dtype == pl.String:
        return values
    if values.dtype.is_nested() or values.dtype in (pl.Object, pl.Binary):
        raise InputError(f"{what} holds {values.dtype}, expected text or numbers")
    if values.dtype.is_float():
        values = values.fill_nan(None)
        whole = values.cast(pl.Int64, strict=False)
        if (whole == values).all():
            values = whole
    return values.cast(pl.String)


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
    return Vocabulary(values, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))


def unpack_ids(vocabulary: Vocabulary) -> pl.Series:
    """The vocabulary's ids as String, in index order."""
    return pl.Series([id_.decode() for id_ in vocabulary], dtype=pl.String)
