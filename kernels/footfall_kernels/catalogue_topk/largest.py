"""The k largest of many, exactly and in one order: by value, and among equal values by index."""

import torch
from torch import Tensor
from torch.nn import functional

GROUP = 32
"""Values that one maximum stands for."""
FEW = 4
"""Times the groups must outnumber the k that are wanted for their maxima to be worth a pass of their own."""
LAST_INDEX = 2**31 - 1


def largest_keys(value: Tensor, k: int, first: int = 0) -> Tensor:
    """Keys int64 [rows, at most k] of the k largest fp32 `value` [rows, count], descending; indices start at `first`.

    The k groups with the largest maxima hold the k largest values, so that only k groups are looked into.
    """
    count = value.shape[1]
    index = torch.arange(first, first + count, device=value.device)
    if count > FEW * GROUP * k:
        chosen = largest_index(group_maxima(value), k)
        place = (chosen.unsqueeze(2) * GROUP + torch.arange(GROUP, device=value.device)).flatten(1)
        # The last group may be short: what lies past the end scores -inf, under an index of its own.
        value = value.gather(1, place.clamp_max(count - 1)).masked_fill(place >= count, -torch.inf)
        index = place + first
    return keys(value, index).topk(min(k, value.shape[1]), dim=1).values


def largest_index(value: Tensor, k: int) -> Tensor:
    """Indices int64 [rows, at most k] of the k largest fp32 `value` [rows, count], descending."""
    return _index(largest_keys(value, k))


def group_maxima(value: Tensor) -> Tensor:
    """[rows, count] -> [rows, count / GROUP], rounded up."""
    whole = value.shape[1] // GROUP
    maxima = value[:, : whole * GROUP].view(len(value), whole, GROUP).amax(dim=2)
    rest = value[:, whole * GROUP :]
    return torch.cat([maxima, rest.amax(dim=1, keepdim=True)], dim=1) if rest.shape[1] else maxima


def keys(value: Tensor, index: Tensor) -> Tensor:
    """int64 that order as (value, -index) do: fp32 `value` in the upper half, `index` counted down in the lower."""
    bits = (value + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0, so that both are equal
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) + (LAST_INDEX - index)


def decode(key: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(index int32 [rows, k], value fp32 [rows, k]) of keys [rows, count], descending; 0 and -inf past the last."""
    top = key.topk(min(k, key.shape[1]), dim=1).values
    ordered = (top >> 32).int()
    value = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    index = _index(top).int().masked_fill(value == -torch.inf, 0)
    missing = (0, k - top.shape[1])
    return functional.pad(index, missing), functional.pad(value, missing, value=-torch.inf)


def _index(key: Tensor) -> Tensor:
    return LAST_INDEX - (key & LAST_INDEX)
