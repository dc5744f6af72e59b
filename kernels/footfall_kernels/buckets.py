"""Buckets: how the distance of two events, in places or in seconds, becomes an index of a bias table."""

from torch import Tensor


def bucket_of_reference(distance: Tensor, num: int) -> Tensor:
    """Integers to int64: min(bit_length(max(distance, 0)), num - 1), so 0, 1, 2..3, 4..7 -> 0, 1, 2, 3."""
    # float64 holds every int32, so its exponent is the bit length.
    _, length = distance.clamp_min(0).double().frexp()
    return length.clamp_max(num - 1).long()
