"""Buckets: how the distance of two events, in places or in seconds, becomes an index of a bias table."""

import torch
from torch import Tensor

BEGINS = (-(2**31), *(1 << bit for bit in range(31)))
"""The least int32 of each bucket."""


def bucket_of_reference(distance: Tensor, num: int) -> Tensor:
    """Integers to int64: min(bit_length(max(distance, 0)), num - 1), so 0, 1, 2..3, 4..7 -> 0, 1, 2, 3."""
    # float64 holds the difference of any two int32 exactly, so its exponent tells the bit length; 0 has exponent 0.
    exponent = distance.clamp_min(0).double().view(torch.int64) >> 52
    return (exponent - 1022).clamp_(0, num - 1)


def bucket_by_logarithm(distance: Tensor, num: int) -> Tensor:
    """The same, of distances an int32 holds, in operations that ONNX has."""
    begins = torch.tensor(BEGINS, dtype=distance.dtype, device=distance.device)
    # fp32 rounds the distance and its logarithm, so that the guess is the bucket or, as 1e-3 is added, the next one.
    guess = (distance.float().clamp_min(0.5).log2() + 1.001).int().clamp_max(min(num, len(BEGINS)) - 1).long()
    return guess - (distance < begins[guess]).long()
