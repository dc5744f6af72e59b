"""append: rows into the pages of a cache, by both implementations, in the interpreter or on a GPU."""

from collections.abc import Sequence

import pytest
import torch
from _paged import filled, gathered, random, seconds
from conftest import DEVICE
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.decode_attention.decode_attention import _append, append

pytestmark = pytest.mark.kernels

IMPLEMENTATIONS = ("reference", "triton")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("page", [64, 128])
def test_rows_appended_in_parts_lie_as_rows_appended_at_once(implementation: str, page: int) -> None:
    cache = filled((10, 64, 0), implementation=implementation, page=page)
    before = [gathered(cache, sequence) for sequence in range(3)]
    counts = {2: 70, 0: 54, 1: 1}
    cache.allocate_all(counts)
    k, v, time = random(125, 2, 32), random(125, 2, 32), seconds(125)
    append(
        cache, k, v, time, implementation=implementation, sequences=list(counts), offsets=[0, 70, 124, 125]
    )
    assert cache.lengths.tolist() == [64, 65, 70] == cache.written
    start = 0
    for sequence, count in counts.items():
        for got, old, new in zip(gathered(cache, sequence), before[sequence], (k, v, time), strict=True):
            assert torch.equal(got, torch.cat([old, new[start : start + count]]))
        start += count


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_end_of_a_last_page_is_zero_and_other_pages_are_left_alone(implementation: str) -> None:
    cache = filled((10, 64, 0, 130), implementation=implementation, page=128)
    for pool in (cache.k, cache.v):
        for sequence, length in enumerate(cache.written):
            rows = pool[cache.pages[sequence]].flatten(0, 1)
            assert torch.isfinite(rows[:length]).all() and not rows[length:].any()
        assert pool[cache.free].isnan().all()


def test_rows_that_cannot_be_appended_are_refused_and_nothing_is_written() -> None:
    cache = filled((3, 70))
    rows = (random(4, 2, 32), random(4, 2, 32), seconds(4))
    before = gathered(cache, 0), cache.lengths.tolist(), list(cache.written)

    def refused(
        sentence: str, sequences: list[int], offsets: list[int], given: Sequence[Tensor] = rows
    ) -> None:
        with pytest.raises(InputError, match=sentence):
            append(cache, *given, implementation="triton", sequences=sequences, offsets=offsets)

    refused(r"offsets \[0, 3\] do not part 4 rows among 1 sequences, from 0 to 4", [0], [0, 3])
    refused(r"offsets \[0, 4\] do not part 4 rows among 2 sequences", [0, 1], [0, 4])
    refused(r"a sequence is named twice in \[0, 0\]", [0, 0], [0, 2, 4])
    refused(r"sequence 0 has room for 0 rows and was given 4; allocate comes first", [0], [0, 4])
    refused(r"sequence 1 has room for 0 rows and was given -1", [0, 1, 1 + 1], [0, 0, -1, 4])
    refused(r"time has shape \[3\], expected \[4\]", [0], [0, 4], (*rows[:2], rows[2][:3]))
    refused(r"k is float16, expected float32", [0], [0, 4], (rows[0].half(), *rows[1:]))
    after = gathered(cache, 0), cache.lengths.tolist(), list(cache.written)
    assert (
        all(torch.equal(*pair) for pair in zip(before[0], after[0], strict=True)) and before[1:] == after[1:]
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_op_is_one_that_compilers_can_take(implementation: str) -> None:
    cache = filled((3, 70))
    pools = (cache.k, cache.v, cache.time, cache.page_table, cache.lengths)
    places = torch.tensor([1], device=DEVICE), torch.tensor([0, 4], device=DEVICE)
    rows = (random(4, 2, 32), random(4, 2, 32), seconds(4))
    torch.library.opcheck(_append, (*rows, *pools, *places, implementation))
