"""Quotes of a text file: whether they stand as a CSV's do, so that polars reads them as they are meant."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 26
QUOTE, NEWLINE, RETURN = b'"\n\r'


def has_quotes(path: Path) -> bool:
    data = _bytes(path)
    return any((data[at : at + CHUNK] == QUOTE).any() for at in range(0, len(data), CHUNK))


def quotes_are_regular(path: Path, separator: str) -> bool:
    """Whether every quoted field begins behind and ends before a separator or line end, on one line.

    A stray quote, as of `a 5" screen`, would otherwise swallow what follows, up to the next one.
    """
    data = _bytes(path)
    quotes = _places(data, QUOTE)
    if len(quotes) % 2:
        return False
    opening, closing = quotes[0::2], quotes[1::2]
    around = np.array([*separator.encode(), NEWLINE, RETURN, QUOTE], dtype=np.uint8)
    before = data[np.maximum(opening - 1, 0)]
    after = data[np.minimum(closing + 1, len(data) - 1)]
    if not (np.isin(before, around) | (opening == 0)).all():
        return False
    if not (np.isin(after, around) | (closing == len(data) - 1)).all():
        return False
    lines = _places(data, NEWLINE)
    return bool((np.searchsorted(lines, opening) == np.searchsorted(lines, closing)).all())


def _bytes(path: Path) -> NDArray[np.uint8]:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r")


def _places(data: NDArray[np.uint8], byte: int) -> NDArray[np.int64]:
    found = [np.flatnonzero(data[at : at + CHUNK] == byte) + at for at in range(0, len(data), CHUNK)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])
