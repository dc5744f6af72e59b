"""attend_last: attention of each sequence's last event alone, in plain torch on any device."""

import torch
from torch import Tensor
from torch.nn import functional

from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.pairs import look_up, number, pair_table
from footfall_kernels.attention.rules import AttentionRules
from footfall_kernels.buckets import bucket_of_reference

LEAST_SCORE = -1e30
"""Finite, so that an empty sequence has a largest score."""


def attend_last(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    rules: AttentionRules,
    *,
    time: Tensor | None = None,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
) -> Tensor:
    """The rows of `attention` that belong to the last events: [sequences, heads, head_dim]; 0 for an empty sequence.

    query is of these events alone, [sequences, heads, head_dim]; key and value [total, heads, head_dim] and the rest
    as there, without window, prefix and candidates. Rows behind the last offset belong to nobody. It reads keys and
    values once and waits for nothing, so that a CUDA graph holds it. Differentiable by autograd.
    """
    row = torch.arange(len(key), device=key.device)
    sequence = torch.searchsorted(offsets[1:], row, right=True).clamp(max=len(offsets) - 2)
    last = (offsets[1:] - 1)[sequence]
    extras = Extras(None, time, position_bias, time_bias)
    elapsed = None if time is None else time[last, 1] - time[:, 0]
    pair = number(last - row, elapsed, row <= last, extras.num_buckets, bucket_of_reference)
    like = query.new_zeros((), dtype=torch.promote_types(query.dtype, torch.float32))
    bias = look_up(pair_table(rules.kind, position_bias, time_bias, like), pair[None, None])[:, 0, 0]
    scores = (query[sequence] * key).sum(-1, dtype=like.dtype) * rules.scale + bias.T  # [total, heads]

    if rules.kind == "silu":
        weight = functional.silu(scores) / rules.normaliser
        return _sums(weight.unsqueeze(-1) * value, sequence, len(query)).to(value.dtype)
    largest = scores.new_full(query.shape[:2], LEAST_SCORE)
    largest = largest.scatter_reduce(0, sequence.unsqueeze(1).expand_as(scores), scores.detach(), "amax")
    weight = (scores - largest[sequence]).exp()
    total = _sums(weight, sequence, len(query)).clamp(min=torch.finfo(weight.dtype).tiny)
    mixed = _sums(weight.unsqueeze(-1) * value, sequence, len(query))
    return (mixed / total.unsqueeze(-1)).to(value.dtype)


def _sums(values: Tensor, sequence: Tensor, num_sequences: int) -> Tensor:
    """[total, ...] -> [sequences, ...]"""
    # On a CPU torch.segment_reduce took 4.2 ms where this takes 0.6 (64 sequences of 200, 2 heads of 64).
    return values.new_zeros(num_sequences, *values.shape[1:]).index_add(0, sequence, values)
