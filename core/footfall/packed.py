"""Packed: lists of unequal length in one array; list i owns the places offsets[i]:offsets[i + 1]."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def offsets_of(lengths: ArrayLike) -> NDArray[np.int64]:
    """Where each list begins and the last one ends, int64 [lists + 1]."""
    lengths = np.asarray(lengths)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.add.accumulate(lengths, dtype=np.int64, out=offsets[1:])
    return offsets


def ranges(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places start[i]:end[i] one after the other, int64, and the offsets of these lists."""
    lengths = end - start
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths), offsets
