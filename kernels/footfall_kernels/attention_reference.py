"""The definition of packed attention in plain torch; what a CPU runs. Differentiable by autograd."""

import torch
from torch import Tensor
from torch.nn import functional

from footfall_kernels.attention_extras import Extras
from footfall_kernels.attention_groups import Group, Groups
from footfall_kernels.attention_pairs import look_up, pair_table, weigh
from footfall_kernels.attention_rules import AttentionRules

CHUNK_SCORES = 1 << 20
"""Scores held at once, 4 MiB in fp32, unless CHUNK_ROWS are more."""
CHUNK_ROWS = 32
"""Queries of a sequence computed at once at least: each chunk reads all keys and values before it."""


def attention_reference(
    query: Tensor, key: Tensor, value: Tensor, plan: Groups, rules: AttentionRules, extras: Extras
) -> Tensor:
    """Packed [total, heads, head_dim] each -> the same."""
    if not plan.groups:
        return torch.zeros_like(query, memory_format=torch.contiguous_format)
    wide = query.new_zeros((), dtype=torch.promote_types(query.dtype, torch.float32))
    table = pair_table(rules.kind, extras.position_bias, extras.time_bias, wide)
    rows = []
    for group in plan.groups:
        padded = [_pad(tensor, group) for tensor in (query, key, value)]
        mixed = _attend(padded[0], padded[1], padded[2], table, group, rules, extras)
        rows.append(mixed.transpose(1, 2).flatten(0, 1))  # [group * length, heads, head_dim]
    return torch.cat(rows).index_select(0, plan.place)


def _pad(packed: Tensor, group: Group) -> Tensor:
    """[total, heads, head_dim] -> [group, heads, length, head_dim]."""
    cells = packed.index_select(0, group.slot.flatten())
    return cells.view(*group.slot.shape, *packed.shape[1:]).transpose(1, 2)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: Tensor,
    group: Group,
    rules: AttentionRules,
    extras: Extras,
) -> Tensor:
    """[group, heads, length, head_dim] each, and so the result."""
    length = query.shape[2]
    if (
        rules.kind == "softmax"
        and table.shape[1] == 2
        and rules.window >= length
        and not group.history.numel()
    ):
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=rules.scale)
    rows = max(CHUNK_SCORES // (query.shape[0] * query.shape[1] * length), CHUNK_ROWS)
    parts = []
    for start in range(0, length, rows):
        end = min(start + rows, length)
        pair = group.pairs(start, end, rules.window, rules.prefix, extras.num_buckets, extras.time)
        weight = weigh(query[:, :, start:end], key[:, :, :end], look_up(table, pair), rules)
        parts.append(torch.matmul(weight.to(value.dtype), value[:, :, :end]))
    return torch.cat(parts, dim=2)
