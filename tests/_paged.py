"""Paged caches filled with random rows, for the tests of what reads and writes them."""

from collections.abc import Sequence

import torch
from conftest import DEVICE
from torch import Tensor

from footfall_kernels.decode_attention.decode_attention import append
from footfall_kernels.decode_attention.paged_cache import PagedCache

LENGTHS = (0, 1, 130, 64)
"""No history, one event, a last tile with a few rows, a full tile."""


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(DEVICE, dtype)


def seconds(*shape: int, low: int = 0, high: int = 10**6) -> Tensor:
    return torch.randint(low, high, shape, dtype=torch.int32).to(DEVICE)


def filled(
    lengths: Sequence[int] = LENGTHS,
    *,
    heads: int = 2,
    head_dim: int = 32,
    dtype: torch.dtype = torch.float32,
    page: int = 64,
    implementation: str = "reference",
) -> PagedCache:
    """A cache whose pages are in no order and were NaN before the rows were appended."""
    torch.manual_seed(sum(lengths) + head_dim)
    max_pages = max(lengths, default=0) // page + 2
    cache = PagedCache.empty(
        sequences=len(lengths), num_pages=len(lengths) * max_pages, max_pages=max_pages, heads=heads,
        head_dim=head_dim, dtype=dtype, device=DEVICE, page=page,
    )  # fmt: skip
    cache.k.fill_(torch.nan)
    cache.v.fill_(torch.nan)
    cache.free[:] = torch.randperm(len(cache.free)).tolist()
    cache.allocate_all(dict(enumerate(lengths)))
    offsets = [0]
    for length in lengths:
        offsets.append(offsets[-1] + length)
    append(
        cache, random(offsets[-1], heads, head_dim, dtype=dtype), random(offsets[-1], heads, head_dim, dtype=dtype),
        seconds(offsets[-1]), implementation=implementation, sequences=range(len(lengths)), offsets=offsets,
    )  # fmt: skip
    return cache


def new_rows(cache: PagedCache, rows: int, batch: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    shape = (len(cache.lengths) if batch is None else batch, rows, *cache.k.shape[2:])
    q, k, v = (random(*shape, dtype=cache.k.dtype) for _ in range(3))
    return q, k, v


def gathered(cache: PagedCache, sequence: int) -> list[Tensor]:
    """Copies of a sequence's keys, values and times in order."""
    length = int(cache.lengths[sequence])
    return [
        pool[cache.pages[sequence]].flatten(0, 1)[:length].clone() for pool in (cache.k, cache.v, cache.time)
    ]
