"""The definition of packed attention in plain torch; what a CPU runs. Differentiable by autograd.

Sequences of like length are padded together, so that padding stays below LENGTH_RATIO of the work.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from footfall_kernels.attention_rules import AttentionRules
from footfall_kernels.buckets import bucket_of_reference

LENGTH_RATIO = 1.25
"""Longest to shortest sequence of one padded group."""
CHUNK_SCORES = 1 << 24
"""Scores held at once, 64 MiB in fp32."""


@dataclass(frozen=True)
class Extras:
    """What may be left out: candidates int [sequences], time int32 [total] (seconds), tables [heads, buckets]."""

    num_candidates: Tensor | None = None
    time: Tensor | None = None
    position_bias: Tensor | None = None
    time_bias: Tensor | None = None

    @property
    def plain(self) -> bool:
        return self.num_candidates is None and self.position_bias is None and self.time_bias is None


def attention_reference(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, rules: AttentionRules, extras: Extras
) -> Tensor:
    """Packed [total, heads, head_dim] each, offsets int [sequences + 1] -> [total, heads, head_dim]."""
    output = torch.zeros_like(query, memory_format=torch.contiguous_format)
    for members, slot, length in _groups(offsets):
        padded_query, padded_key, padded_value = (
            _pad(tensor, slot, len(members), length) for tensor in (query, key, value)
        )
        mixed = _attend(
            padded_query, padded_key, padded_value, _Group(members, slot, length, offsets), rules, extras
        )
        rows = mixed.transpose(1, 2).flatten(0, 1)  # [group * length, heads, head_dim]
        real = slot < len(query)
        output = output.index_copy(0, slot[real], rows[real])
    return output


@dataclass(frozen=True)
class _Group:
    """Sequences padded together. slot int64 [group * length]: the packed row of each cell, total where padding."""

    members: Tensor
    slot: Tensor
    length: int
    offsets: Tensor

    @property
    def lengths(self) -> Tensor:
        return self.offsets.diff()[self.members]


def _groups(offsets: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
    """(sequence numbers, slots, length) of groups of like length; empty sequences are in none."""
    lengths = offsets.diff()
    total = int(offsets[-1]) if len(offsets) else 0
    order = torch.argsort(lengths, descending=True, stable=True)
    ordered = lengths[order].tolist()
    start = 0
    while start < len(ordered) and ordered[start]:
        longest, end = ordered[start], start
        while end < len(ordered) and ordered[end] * LENGTH_RATIO >= longest and ordered[end]:
            end += 1
        members = order[start:end]
        place = torch.arange(longest, device=offsets.device)
        slot = offsets[:-1][members][:, None] + place
        slot = torch.where(place < lengths[members][:, None], slot, total).flatten()
        yield members, slot, longest
        start = end


def _pad(packed: Tensor, slot: Tensor, group: int, length: int) -> Tensor:
    """[total, heads, head_dim] -> [group, heads, length, head_dim], zeros where padding."""
    cells = torch.cat([packed, packed.new_zeros(1, *packed.shape[1:])])[slot]
    return cells.view(group, length, *packed.shape[1:]).transpose(1, 2)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, group: _Group, rules: AttentionRules, extras: Extras
) -> Tensor:
    """[group, heads, length, head_dim] each, and so the result."""
    if rules.kind == "softmax" and extras.plain and rules.window >= group.length:
        # Padding stands behind every real event, so the causal mask already hides it.
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=rules.scale)
    rows = max(CHUNK_SCORES // (query.shape[0] * query.shape[1] * group.length), 1)
    parts = [
        _attend_rows(query[:, :, start : start + rows], key, value, start, group, rules, extras)
        for start in range(0, group.length, rows)
    ]
    return torch.cat(parts, dim=2)


def _attend_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    start: int,
    group: _Group,
    rules: AttentionRules,
    extras: Extras,
) -> Tensor:
    row = torch.arange(start, start + query.shape[2], device=query.device)
    history = group.lengths
    if extras.num_candidates is not None:
        history = history - extras.num_candidates[group.members]
    position = torch.minimum(row, history[:, None])  # [group, rows]
    column = torch.arange(group.length, device=query.device)
    distance = position[:, :, None] - column  # [group, rows, length]
    near = (distance < rules.window) | (column < rules.prefix)
    visible = (column < history[:, None, None]) & (distance >= 0) & near | (column == row[:, None])
    score = torch.matmul(query, key.transpose(-1, -2)) * rules.scale + _bias(row, distance, group, extras)
    if rules.kind == "softmax":
        weight = score.masked_fill(~visible[:, None], -math.inf).softmax(-1)
    else:
        weight = functional.silu(score).masked_fill(~visible[:, None], 0.0) / rules.normaliser
    return torch.matmul(weight.to(value.dtype), value)


def _bias(row: Tensor, distance: Tensor, group: _Group, extras: Extras) -> Tensor | float:
    """[group, heads, rows, length], or 0 where there are no tables."""
    bias: Tensor | float = 0.0
    if extras.position_bias is not None:
        bucket = bucket_of_reference(distance, extras.position_bias.shape[1])
        bias = bias + extras.position_bias[:, bucket].transpose(0, 1)
    if extras.time_bias is not None:
        assert extras.time is not None
        time = torch.cat([extras.time, extras.time.new_zeros(1)])[group.slot].view(-1, group.length).long()
        bucket = bucket_of_reference(time[:, row, None] - time[:, None, :], extras.time_bias.shape[1])
        bias = bias + extras.time_bias[:, bucket].transpose(0, 1)
    return bias
