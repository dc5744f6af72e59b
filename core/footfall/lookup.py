"""Lookup: from ids to their indices by hash, in arrays that lie in a file, so that all who map it share them.

A dict of 1 million ids takes 127 MB and 0.57 s of every process; these arrays take 12 MB once.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from footfall.contract import PADDING_INDEX
from footfall.packed import offsets_of, ranges

MULTIPLIER = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse."""
INVERSE = pow(MULTIPLIER, -1, 1 << 64)
IDS_AT_ONCE = 1 << 18
"""Hashed together: of each byte numbers of 8 are held."""


class Lookup:
    """Of ids packed as a Vocabulary's: their hashes uint64 [ids], ascending, and the index int32 [ids] of each."""

    def __init__(
        self,
        values: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        hashes: NDArray[np.uint64],
        index: NDArray[np.int32],
    ) -> None:
        self._values, self._offsets = values, offsets
        self._hashes, self._index = hashes, index

    @classmethod
    def of(cls, values: NDArray[np.uint8], offsets: NDArray[np.int64]) -> "Lookup":
        count = len(offsets) - 1
        bounds = [*range(0, count, IDS_AT_ONCE), count]
        parts = [
            hashes_of(values[offsets[start] : offsets[end]], offsets[start : end + 1] - offsets[start])
            for start, end in pairwise(bounds)
        ]
        hashes = np.concatenate([np.zeros(0, np.uint64), *parts])
        order = np.argsort(hashes, kind="stable")
        return cls(values, offsets, hashes[order], (order + 1).astype(np.int32))

    @classmethod
    def load(cls, folder: Path, values: NDArray[np.uint8], offsets: NDArray[np.int64]) -> "Lookup":
        """Read what `save` wrote, memory-mapped; made anew where a Footfall of before wrote none."""
        if not (folder / "hashes.npy").is_file():
            return cls.of(values, offsets)
        hashes, index = (np.load(folder / name, mmap_mode="r") for name in ("hashes.npy", "index.npy"))
        return cls(values, offsets, hashes, index)

    def save(self, folder: Path) -> None:
        np.save(folder / "hashes.npy", self._hashes)
        np.save(folder / "index.npy", self._index)

    def find(self, ids: Sequence[bytes]) -> NDArray[np.int32]:
        """Indices int32 [len(ids)]; PADDING_INDEX where an id is unknown."""
        if not len(self._hashes):
            return np.full(len(ids), PADDING_INDEX, np.int32)
        blob, offsets = np.frombuffer(b"".join(ids), np.uint8), packed_offsets(ids)
        wanted = hashes_of(blob, offsets)
        place = np.searchsorted(self._hashes, wanted)
        here = np.minimum(place, len(self._hashes) - 1)
        index: NDArray[np.int32] = np.where(self._hashes[here] == wanted, self._index[here], PADDING_INDEX)
        for row in np.flatnonzero(self._differ(index, blob, offsets)).tolist():
            index[row] = self._walk(int(place[row]), wanted[row], ids[row])
        return index

    def _differ(
        self, index: NDArray[np.int32], blob: NDArray[np.uint8], offsets: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Where an index was found and its id is another than the packed one of that row: bool [rows]."""
        lengths, found = np.diff(offsets), index != PADDING_INDEX
        starts = self._offsets[index - found]
        same_length = found & (self._offsets[index] - starts == lengths)
        compared = np.where(same_length, lengths, 0)
        mine, bounds = ranges(starts, starts + compared)
        theirs, _ = ranges(offsets[:-1], offsets[:-1] + compared)
        wrong = offsets_of(self._values[mine] != blob[theirs])[bounds]
        differ: NDArray[np.bool_] = (found & ~same_length) | (wrong[1:] != wrong[:-1])
        return differ

    def _walk(self, place: int, hash_: np.uint64, id_: bytes) -> int:
        """The index of an id among those of one hash, which begin at `place`."""
        while place < len(self._hashes) and self._hashes[place] == hash_:
            index = int(self._index[place])
            if self._values[self._offsets[index - 1] : self._offsets[index]].tobytes() == id_:
                return index
            place += 1
        return PADDING_INDEX


def hashes_of(values: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Of packed ids, uint64 [ids]: the sum of (byte + 1) * MULTIPLIER**place over each, modulo 2**64."""
    # From one running sum over all bytes, whose powers begin at each id's start once they are divided by its own.
    terms = (values.astype(np.uint64) + np.uint64(1)) * _powers(MULTIPLIER, len(values))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
    start = offsets[:-1]
    hashes: NDArray[np.uint64] = (sums[offsets[1:]] - sums[start]) * _powers(INVERSE, len(values) + 1)[start]
    return hashes


def packed_offsets(ids: Sequence[bytes]) -> NDArray[np.int64]:
    """Of these ids, packed."""
    return offsets_of(np.fromiter(map(len, ids), np.int64, len(ids)))


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """base**0 and on, modulo 2**64."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)
