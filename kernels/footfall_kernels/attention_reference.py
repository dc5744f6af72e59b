"""The definition of packed attention in plain torch, and its gradients; what a CPU runs."""

import torch
from torch import Tensor

from footfall_kernels.attention_dense import Dense
from footfall_kernels.attention_extras import Extras
from footfall_kernels.attention_groups import Groups
from footfall_kernels.attention_pairs import pair_table, table_gradients
from footfall_kernels.attention_rules import AttentionRules


def forward(
    query: Tensor, key: Tensor, value: Tensor, plan: Groups, rules: AttentionRules, extras: Extras
) -> tuple[Tensor, Tensor]:
    """Packed [total, heads, head_dim] each -> the same, and what the backward pass needs: [num_saved, heads].

    That is the log of each row's sum, cell by cell, where torch's fused kernel runs; else nothing is saved.
    """
    fused = is_fused(query, plan, rules, extras)
    mixed, saved = [], [query.new_empty(0, query.shape[1], dtype=wide(query))]
    table = _table(query, rules, extras)
    for group in plan.groups:
        padded = _pad_all(group.slot, query, key, value)
        if fused:
            output, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                *padded, 0.0, True, scale=rules.scale
            )
            saved.append(log_sum.transpose(1, 2).flatten(0, 1))
        else:
            dense = Dense(group, rules, extras.num_buckets, table, extras.time)
            output = dense.forward(*padded)
        mixed.append(output)
    return _unpad(mixed, plan, query), torch.cat(saved)


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
    fused = is_fused(query, plan, rules, extras)
    table = _table(query, rules, extras)
    table_gradient = torch.zeros_like(table, dtype=torch.float64) if any(extras.num_buckets) else None
    gradients: list[tuple[Tensor, ...]] = []
    cells = 0
    for group in plan.groups:
        padded = _pad_all(group.slot, query, key, value)
        gradient = _pad(output_gradient, group.slot, zeros_at=group.padding)
        if fused:
            saved = log_sum[cells : cells + group.slot.numel()].view(*group.slot.shape, -1).transpose(1, 2)
            gradients.append(
                torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    gradient, *padded, _pad(output, group.slot), saved, 0.0, True, scale=rules.scale
                )
            )
        else:
            dense = Dense(group, rules, extras.num_buckets, table, extras.time)
            gradients.append(dense.backward(gradient, *padded, table_gradient))
        cells += group.slot.numel()
    of_query, of_key, of_value = (
        _unpad([found[place] for found in gradients], plan, tensor)
        for place, tensor in enumerate(tensors[:3])
    )
    return of_query, of_key, of_value, *table_gradients(table_gradient, extras)


def is_fused(query: Tensor, plan: Groups, rules: AttentionRules, extras: Extras) -> bool:
    """Whether torch's fused kernel runs: softmax of all of the past without bias, on a CPU."""
    plain = extras.num_candidates is None and not any(extras.num_buckets)
    longest = plan.groups[0].slot.shape[1] if plan.groups else 0
    return plain and rules.kind == "softmax" and rules.window >= longest and query.device.type == "cpu"


def num_saved(query: Tensor, plan: Groups, rules: AttentionRules, extras: Extras) -> int:
    """Rows of what `forward` saves."""
    fused = is_fused(query, plan, rules, extras)
    return sum(group.slot.shape[0] * group.slot.shape[1] for group in plan.groups) if fused else 0


def wide(tensor: Tensor) -> torch.dtype:
    """Of scores and of what is summed: fp32 for half precision."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _table(query: Tensor, rules: AttentionRules, extras: Extras) -> Tensor:
    like = query.new_empty(0, dtype=wide(query))
    return pair_table(rules.kind, extras.position_bias, extras.time_bias, like)


def _pad_all(slot: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _pad(query, slot), _pad(key, slot), _pad(value, slot)


def _pad(packed: Tensor, slot: Tensor, zeros_at: Tensor | None = None) -> Tensor:
    """[total, heads, head_dim] -> [group, heads, length, head_dim], zero at these flat cells."""
    cells = packed.index_select(0, slot.flatten())
    if zeros_at is not None:
        cells.index_fill_(0, zeros_at, 0.0)
    return cells.view(*slot.shape, *packed.shape[1:]).transpose(1, 2)


def _unpad(padded: list[Tensor], plan: Groups, like: Tensor) -> Tensor:
    """[group, heads, length, head_dim] of every group -> [total, heads, head_dim] in the dtype of `like`."""
    if not padded:
        return like.new_empty(like.shape)
    groups = [group.transpose(1, 2).flatten(0, 1) for group in padded]
    cells = groups[0] if len(groups) == 1 else torch.cat(groups)
    return cells.index_select(0, plan.place).to(like.dtype)
