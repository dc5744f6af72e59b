"""PagedCache: pages change hands whole, and a refusal leaves everything as it was."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.errors import InputError
from footfall_kernels.decode_attention.paged_cache import NO_PAGE, PagedCache

pytestmark = pytest.mark.kernels


def small(num_pages: int = 6, max_pages: int = 4) -> PagedCache:
    return PagedCache.empty(
        sequences=3, num_pages=num_pages, max_pages=max_pages, heads=1, head_dim=32,
        dtype=torch.float32, device="cpu",
    )  # fmt: skip


def test_pages_are_given_by_need_and_come_back() -> None:
    cache = small()
    cache.allocate(1, 64)
    cache.allocate(1, 1)
    cache.allocate(2, 0)
    assert cache.page_table[1].tolist() == [0, 1, NO_PAGE, NO_PAGE]
    cache.release(1)
    assert cache.page_table.eq(NO_PAGE).all() and sorted(cache.free) == list(range(6))


@pytest.mark.parametrize(
    "sequence, rows, sentence",
    [
        (0, 64 * 4 + 1, "sequence 0 would have 257 rows, the cache takes 256 of a sequence"),
        (1, 64 * 4, "the cache is full: 4 pages are needed and 3 are free"),
        (3, 1, "there is no sequence 3, the cache has 3"),
        (0, -1, "sequence 0 cannot take -1 rows"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_half_done(
    sequence: int, rows: int, sentence: str
) -> None:
    cache = small()
    cache.allocate(2, 129)
    before = copy.deepcopy(cache)
    with pytest.raises(InputError, match=sentence):
        cache.allocate_all({2: 1, sequence: rows})
    for name in ("free", "pages", "allocated", "written"):
        assert getattr(cache, name) == getattr(before, name)
    assert torch.equal(cache.page_table, before.page_table)


def test_rows_without_an_allocation_are_refused() -> None:
    cache = small()
    cache.allocate(0, 3)
    cache.write({0: 2})
    with pytest.raises(
        InputError, match="sequence 0 has room for 1 rows and was given 2; allocate comes first"
    ):
        cache.write({0: 2})


def test_a_page_size_or_dtype_that_no_kernel_takes_is_refused() -> None:
    sizes = {"sequences": 1, "num_pages": 1, "max_pages": 1, "heads": 1, "head_dim": 32}
    with pytest.raises(InputError, match="page is 32, it must be one of 64, 128"):
        PagedCache.empty(**sizes, dtype=torch.float32, device="cpu", page=32)
    with pytest.raises(InputError, match=r"a cache of torch\.int8 is not supported"):
        PagedCache.empty(**sizes, dtype=torch.int8, device="cpu")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 200)), max_size=12))
def test_no_page_is_ever_held_twice_or_lost(steps: list[tuple[int, int]]) -> None:
    cache = small()
    for sequence, rows in steps:
        try:
            if rows < 0:
                cache.release(sequence)
            else:
                cache.allocate(sequence, rows)
        except InputError:
            pass
        held = [page for pages in cache.pages for page in pages]
        assert sorted(held + cache.free) == list(range(6))
        for row, pages in zip(cache.page_table.tolist(), cache.pages, strict=True):
            assert row == pages + [NO_PAGE] * (4 - len(pages))
