"""Vocabulary: the two-way map between ids (of items, users, actions) and dense indices.

Indices start at 1; 0 is padding. Within a lineage a vocabulary is append-only: version N's ids are a prefix
of version N+1's, so an index never changes its meaning.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.errors import InputError
from footfall.lookup import Lookup, packed_offsets

KEPT = 1 << 16
"""Ids whose indices are remembered, some 10 MB: 50 that were asked for before take 3 us instead of 85."""


class Vocabulary:
    """Ids in index order, packed as UTF-8 `values` uint8 [bytes] and `offsets` int64 [ids + 1]."""

    def __init__(self, values: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self._values = values
        self._offsets = offsets
        self._folder: Path | None = None
        self._kept: dict[bytes, int] = {}

    @classmethod
    def from_ids(cls, ids: Iterable[str | bytes]) -> "Vocabulary":
        """Index `ids` in the order given. Raises InputError where one occurs twice."""
        encoded = [id_.encode() if isinstance(id_, str) else id_ for id_ in ids]
        if len(set(encoded)) != len(encoded):
            raise InputError(f"a vocabulary of {len(encoded)} ids holds an id more than once")
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), packed_offsets(encoded))

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Read what `save` wrote, memory-mapped."""
        vocabulary = cls(
            np.load(folder / "values.npy", mmap_mode="r"),
            np.load(folder / "offsets.npy", mmap_mode="r"),
        )
        vocabulary._folder = folder
        return vocabulary

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "values.npy", self._values)
        np.save(folder / "offsets.npy", self._offsets)
        self._lookup.save(folder)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[bytes]:
        blob = self._values.tobytes()
        bounds = self._offsets.tolist()
        return (blob[start:end] for start, end in pairwise(bounds))

    @cached_property
    def _lookup(self) -> Lookup:
        if self._folder is None:
            return Lookup.of(self._values, self._offsets)
        return Lookup.load(self._folder, self._values, self._offsets)

    def index(self, id_: bytes) -> int:
        """The id's index, or PADDING_INDEX where it is unknown."""
        return int(self.indices([id_])[0])

    def indices(self, ids: Sequence[bytes]) -> NDArray[np.int32]:
        """Indices int32 [len(ids)]; PADDING_INDEX where an id is unknown."""
        index = list(map(self._kept.get, ids))
        if None in index:
            new = list({id_ for id_, known in zip(ids, index, strict=True) if known is None})
            found = dict(zip(new, self._lookup.find(new).tolist(), strict=True))
            index = [found[id_] if known is None else known for id_, known in zip(ids, index, strict=True)]
            if len(self._kept) + len(found) > KEPT:
                self._kept.clear()
            if len(found) <= KEPT:
                self._kept.update(found)
        return np.array(index, dtype=np.int32)

    def id(self, index: int) -> bytes:
        """The id at `index` >= 1. Raises IndexError for padding and past the end."""
        return self.ids([index])[0]

    def ids(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> list[bytes]:
        """As `id`."""
        index = np.asarray(indices, dtype=np.int64)
        if len(index) and (index.min() < 1 or index.max() > len(self)):
            bad = index[(index < 1) | (index > len(self))][0]
            raise IndexError(f"index {bad} is outside 1..{len(self)}")
        if len(self) <= KEPT:
            found: list[bytes] = self._every[index - 1].tolist()
            return found
        bounds = zip(self._offsets[index - 1].tolist(), self._offsets[index].tolist(), strict=True)
        values = self._values.data
        return [bytes(values[start:end]) for start, end in bounds]

    @cached_property
    def _every(self) -> NDArray[np.object_]:
        """Of few; 20 of them then take 2 us instead of 12."""
        every = np.empty(len(self), dtype=np.object_)
        every[:] = list(self)
        return every

    def is_prefix_of(self, other: "Vocabulary") -> bool:
        """Whether `other` gives every id of this vocabulary the same index."""
        count = len(self)
        return (
            count <= len(other)
            and np.array_equal(self._offsets, other._offsets[: count + 1])
            and np.array_equal(self._values, other._values[: self._offsets[-1]])
        )

    def fingerprint(self) -> str:
        """SHA-256 of the ids in order, hexadecimal."""
        digest = hashlib.sha256(np.ascontiguousarray(self._offsets).tobytes())
        digest.update(np.ascontiguousarray(self._values).tobytes())
        return digest.hexdigest()
