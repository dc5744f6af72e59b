"""The definition of packed attention in plain torch, and its gradients; what a CPU runs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from footfall_kernels.attention.dense import Dense
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.group import Group
from footfall_kernels.attention.groups import Groups, is_plain
from footfall_kernels.attention.pairs import pair_table, table_gradients
from footfall_kernels.attention.rules import AttentionRules

Three = tuple[Tensor, Tensor, Tensor]


def forward(
    query: Tensor, key: Tensor, value: Tensor, plan: Groups, rules: AttentionRules, extras: Extras
) -> tuple[Tensor, Tensor]:
    """Packed [total, heads, head_dim] each -> the same, and what the backward pass needs: [num_saved, heads].

    That is the log of each row's sum, cell by cell, where torch's fused kernel runs; else nothing is saved.
    """
    fused = is_fused(query, rules, extras)
    table = _table(query, rules, extras)
    mixed, saved = [], [query.new_empty(0, query.shape[1], dtype=wide(query))]
    for group in plan.groups:
        if fused:
            padded = (group.by_sequence(tensor) for tensor in (query, key, value))
            output, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                *padded, 0.0, True, scale=rules.scale
            )
            saved.append(log_sum.transpose(1, 2).flatten(0, 1))
        else:
            dense = Dense(group, rules, extras.num_buckets, table, extras.time)
            by_head = dense.forward(*(group.by_head(tensor, table.dtype) for tensor in (query, key, value)))
            output = _by_sequence(by_head, group)
        mixed.append(output)
    return _pack(mixed, plan, query), torch.cat(saved)


def backward(
    output_gradient: Tensor,
    tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    plan: Groups,
    rules: AttentionRules,
    extras: Extras,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of query, key, value, position table and time table, in the dtype of each; the same bits each time.

    tensors: query, key, value, output, log_sum as `forward` took and gave them.
    """
    query, key, value, output, log_sum = tensors
    fused = is_fused(query, rules, extras)
    table = _table(query, rules, extras)
    table_gradient = torch.zeros_like(table, dtype=torch.float64) if any(extras.num_buckets) else None
    output_gradient = output_gradient.contiguous()
    gradients: list[Sequence[Tensor]] = []
    cells = 0
    for group in plan.groups:
        if fused:
            saved = log_sum[cells : cells + group.slot.numel()]
            gradients.append(
                _fused_backward(output_gradient, (query, key, value), output, saved, group, rules)
            )
        else:
            dense = Dense(group, rules, extras.num_buckets, table, extras.time)
            of_heads = dense.backward(
                group.by_head(output_gradient, table.dtype, zeros=True),
                group.by_head(query, table.dtype),
                group.by_head(key, table.dtype),
                group.by_head(value, table.dtype),
                table_gradient,
            )
            gradients.append([_by_sequence(gradient, group) for gradient in of_heads])
        cells += group.slot.numel()
    of_query, of_key, of_value = (
        _pack([found[place] for found in gradients], plan, tensor) for place, tensor in enumerate(tensors[:3])
    )
    return of_query, of_key, of_value, *table_gradients(table_gradient, extras)


def is_fused(query: Tensor, rules: AttentionRules, extras: Extras) -> bool:
    """Whether torch's fused kernel runs; it is there for a CPU."""
    return is_plain(rules, extras) and query.device.type == "cpu"


def num_saved(query: Tensor, plan: Groups, rules: AttentionRules, extras: Extras) -> int:
    """Rows of what `forward` saves."""
    return plan.num_cells if is_fused(query, rules, extras) else 0


def wide(tensor: Tensor) -> torch.dtype:
    """Of scores and of what is summed: fp32 for half precision."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _fused_backward(
    output_gradient: Tensor,
    tensors: Three,
    output: Tensor,
    log_sum: Tensor,
    group: Group,
    rules: AttentionRules,
) -> Three:
    gradients: Three = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        group.by_sequence(output_gradient, zeros=True),
        *(group.by_sequence(tensor) for tensor in tensors),
        group.by_sequence(output),
        log_sum.view(*group.slot.shape, -1).transpose(1, 2),
        0.0,
        True,
        scale=rules.scale,
    )
    return gradients


def _table(query: Tensor, rules: AttentionRules, extras: Extras) -> Tensor:
    like = query.new_empty(0, dtype=wide(query))
    return pair_table(rules.kind, extras.position_bias, extras.time_bias, like)


def _by_sequence(by_head: Tensor, group: Group) -> Tensor:
    """[heads * sequences, length, head_dim] -> [sequences, heads, length, head_dim]."""
    return by_head.view(-1, *group.slot.shape, by_head.shape[2]).transpose(0, 1)


def _pack(padded: list[Tensor], plan: Groups, like: Tensor) -> Tensor:
    """[sequences, heads, length, head_dim] of every group -> [total, heads, head_dim] in the dtype of `like`."""
    if len(padded) == 1 and plan.groups[0].is_run:
        return padded[0].transpose(1, 2).reshape(like.shape).to(like.dtype)
    packed = like.new_empty(like.shape)
    for group, tensor in zip(plan.groups, padded, strict=True):
        group.store(tensor, packed)
    return packed
