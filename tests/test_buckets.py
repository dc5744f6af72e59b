"""Buckets of distances: the bit length, on the host and in a kernel."""

import pytest
import torch
import triton
import triton.language as tl
from conftest import DEVICE

from footfall_kernels.buckets import bucket_of_reference
from footfall_kernels.device_functions import bucket_of

pytestmark = pytest.mark.kernels

PLACES = tl.constexpr(256)


@triton.jit  # type: ignore[untyped-decorator]
def write_buckets(Distance, Bucket, NUM: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    place = tl.arange(0, PLACES)
    tl.store(Bucket + place, bucket_of(tl.load(Distance + place), NUM))


@pytest.mark.parametrize("num", [1, 2, 16, 31, 32, 64])
def test_every_power_of_two_and_its_neighbours_have_their_bit_length(num: int) -> None:
    around = {sign * (2**power + step) for power in range(32) for step in (-1, 0, 1) for sign in (-1, 1)}
    values = sorted(value for value in around if -(2**31) <= value < 2**31)
    assert {2**31 - 1, -(2**31), 0} <= set(values)
    want = [min(max(value, 0).bit_length(), num - 1) for value in values]

    distance = torch.zeros(PLACES.value, dtype=torch.int32)
    distance[: len(values)] = torch.tensor(values)
    bucket = torch.empty_like(distance, device=DEVICE)
    write_buckets[(1,)](distance.to(DEVICE), bucket, num)
    assert bucket[: len(values)].tolist() == want
    assert bucket_of_reference(distance, num)[: len(values)].tolist() == want
