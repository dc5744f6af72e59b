"""PagedCache: keys, values and times of many histories in pages of one pool (PagedAttention, arXiv 2309.06180)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.checks import FLOATS

PAGES = (64, 128)
"""Rows a page may have: one or two tiles of the kernels."""
NO_PAGE = -1


@dataclass(frozen=True)
class PagedCache:
    """Cached rows of sequences 0 to len(lengths) - 1; position p of sequence s is row p % page of its page p // page.

    k, v: fp32, fp16 or bf16 [num_pages, page, heads, head_dim]. time: int32 seconds [num_pages, page]. page_table:
    int32 [sequences, max_pages], -1 where a sequence has no page. lengths: int32 [sequences]. In the last page of a
    sequence the rows past its length are zero. The pages that are free, and those that each sequence holds, are kept
    on the host: allocating never waits for the device.
    """

    k: Tensor
    v: Tensor
    time: Tensor
    page_table: Tensor
    lengths: Tensor
    free: list[int]
    pages: list[list[int]]
    allocated: list[int]
    """Rows each sequence has room for: what `allocate` was asked for, in all."""
    written: list[int]
    """Rows of each sequence that `append` has written: lengths, as the host knows them."""

    @classmethod
    def empty(
        cls,
        *,
        sequences: int,
        num_pages: int,
        max_pages: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
        page: int = 64,
    ) -> "PagedCache":
        """A pool of num_pages pages, of which one sequence holds max_pages at most."""
        if page not in PAGES:
            raise InputError(f"page is {page}, it must be one of {', '.join(map(str, PAGES))}")
        if dtype not in FLOATS:
            raise InputError(f"a cache of {dtype} is not supported, expected float32, float16, bfloat16")
        shape = (num_pages, page, heads, head_dim)
        return cls(
            k=torch.zeros(shape, dtype=dtype, device=device),
            v=torch.zeros(shape, dtype=dtype, device=device),
            time=torch.zeros(shape[:2], dtype=torch.int32, device=device),
            page_table=torch.full((sequences, max_pages), NO_PAGE, dtype=torch.int32, device=device),
            lengths=torch.zeros(sequences, dtype=torch.int32, device=device),
            free=list(reversed(range(num_pages))),
            pages=[[] for _ in range(sequences)],
            allocated=[0] * sequences,
            written=[0] * sequences,
        )

    @property
    def page(self) -> int:
        """Rows of a page."""
        return self.k.shape[1]

    def allocate(self, sequence: int, rows: int) -> None:
        """Pages for `rows` more rows of a sequence; InputError, and nothing done, where the pool has too few."""
        self.allocate_all({sequence: rows})

    def allocate_all(self, rows: Mapping[int, int]) -> None:
        """`allocate` for several sequences, all or none."""
        missing = {sequence: self._missing(sequence, count) for sequence, count in rows.items()}
        wanted = sum(missing.values())
        if wanted > len(self.free):
            raise InputError(f"the cache is full: {wanted} pages are needed and {len(self.free)} are free")
        places = [
            (sequence, len(self.pages[sequence]) + slot, self.free[-1 - index])
            for index, (sequence, slot) in enumerate(
                (sequence, slot) for sequence, count in missing.items() for slot in range(count)
            )
        ]
        if places:
            owner, slot, page = torch.tensor(places, dtype=torch.int64).to(self.lengths.device).unbind(1)
            self.page_table[owner, slot] = page.int()
        for sequence, _, _ in places:
            self.pages[sequence].append(self.free.pop())
        for sequence, count in rows.items():
            self.allocated[sequence] += count

    def release(self, sequence: int) -> None:
        """Frees the pages of a sequence, which is empty afterwards."""
        self._check(sequence)
        self.page_table[sequence].fill_(NO_PAGE)
        self.lengths[sequence].zero_()
        self.free.extend(reversed(self.pages[sequence]))
        self.pages[sequence].clear()
        self.allocated[sequence] = self.written[sequence] = 0

    def write(self, rows: Mapping[int, int]) -> None:
        """Counts rows that are about to be written; InputError, and nothing done, where there is no room for them."""
        for sequence, count in rows.items():
            self._check(sequence)
            room = self.allocated[sequence] - self.written[sequence]
            if not 0 <= count <= room:
                raise InputError(
                    f"sequence {sequence} has room for {room} rows and was given {count}; allocate comes first"
                )
        for sequence, count in rows.items():
            self.written[sequence] += count

    def _missing(self, sequence: int, rows: int) -> int:
        self._check(sequence)
        if rows < 0:
            raise InputError(f"sequence {sequence} cannot take {rows} rows")
        pages = -(-(self.allocated[sequence] + rows) // self.page)
        most = self.page_table.shape[1]
        if pages > most:
            raise InputError(
                f"sequence {sequence} would have {self.allocated[sequence] + rows} rows, the cache takes"
                f" {most * self.page} of a sequence"
            )
        return pages - len(self.pages[sequence])

    def _check(self, sequence: int) -> None:
        if not 0 <= sequence < len(self.pages):
            raise InputError(f"there is no sequence {sequence}, the cache has {len(self.pages)}")
