"""Launch of the attention kernels: what they read of tensors, rules and plan."""

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from footfall_kernels.attention.backward_by_key import attention_backward_by_key
from footfall_kernels.attention.backward_by_query import attention_backward_by_query
from footfall_kernels.attention.configurations import (
    Configuration,
    adds_query_gradients,
    backward_configuration,
    forward_configuration,
    reduces_by_tma,
)
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.forward_kernel import attention_forward
from footfall_kernels.attention.rules import AttentionRules
from footfall_kernels.attention.tile_plan import TileLists, TilePlan
from footfall_kernels.attention.variants import kernel_constants
from footfall_kernels.launch import architecture

Gradients = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]


def forward(
    query: Tensor, key: Tensor, value: Tensor, lists: TileLists, rules: AttentionRules, extras: Extras
) -> tuple[Tensor, Tensor]:
    """Output [total, heads, head_dim] and, for softmax, base-2 log of each row's sum: fp32 [heads, total]."""
    total, heads, head_dim = query.shape
    output = torch.empty(query.shape, dtype=value.dtype, device=query.device)
    log_sum = torch.empty(
        (heads, total) if rules.kind == "softmax" else (0, 0), dtype=torch.float32, device=query.device
    )
    if total == 0:
        return output, log_sum
    configuration = forward_configuration(architecture(query.device), head_dim, query.dtype)
    attention_forward[(len(lists.blocks), heads)](
        *_describe_all(query, key, value, configuration),
        output, log_sum, lists.blocks, lists.counts, lists.tiles, *_pointers(extras, lists),
        query.stride(0), key.stride(0), value.stride(0), query.stride(1), key.stride(1), value.stride(1),
        output.stride(0), total, lists.tiles.shape[1],
        rules.scale, 1 / rules.normaliser, rules.window, rules.prefix,
        **_constants(rules, extras, query, configuration),
        **configuration.launch_options(),
    )  # fmt: skip
    return output, log_sum


def backward(
    output_gradient: Tensor,
    saved: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    plan: TilePlan,
    rules: AttentionRules,
    extras: Extras,
    *,
    deterministic: bool,
) -> Gradients:
    """Gradients of query, key, value, position table and time table, in the dtype of each.

    saved: query, key, value, output, log_sum as `forward` took and gave them.
    """
    query, key, value, output, log_sum = saved
    key_gradient, value_gradient = (
        torch.empty(query.shape, dtype=key.dtype, device=key.device) for _ in "kv"
    )
    query_gradient = torch.zeros(query.shape, dtype=torch.float32, device=query.device)
    sums = _table_sums(query, plan.by_key, extras)
    by_query = deterministic or not adds_query_gradients(architecture(query.device), query.shape[2])
    if len(query):
        delta = log_sum
        if rules.kind == "softmax":
            delta = (output_gradient.float() * output.float()).sum(-1).T.contiguous()
        read = (query, key, value, output_gradient.contiguous(), log_sum, delta)
        _by_key(
            read,
            (query_gradient, key_gradient, value_gradient, sums),
            plan.by_key,
            rules,
            extras,
            not by_query,
        )
        if by_query:
            _by_query(read, query_gradient, plan.by_query, rules, extras)
    tables = [
        None
        if table is None
        else (sums[:, :, place, : table.shape[1]].sum(0) / rules.normaliser).to(table.dtype)
        for place, table in enumerate((extras.position_bias, extras.time_bias))
    ]
    return query_gradient.to(query.dtype), key_gradient, value_gradient, tables[0], tables[1]


def _by_key(
    read: tuple[Tensor, ...],
    written: tuple[Tensor, ...],
    lists: TileLists,
    rules: AttentionRules,
    extras: Extras,
    add_query: bool,
) -> None:
    query, key, value, output_gradient, log_sum, delta = read
    query_gradient, *others = written
    total, heads, head_dim = query.shape
    arch = architecture(query.device)
    configuration = backward_configuration(arch, head_dim, query.dtype)
    reduce = reduces_by_tma(arch)
    block = [configuration.queries, head_dim]
    rows = heads * head_dim
    attention_backward_by_key[(len(lists.blocks), heads)](
        query, key, value, output_gradient,
        _describe(query, configuration.queries, configuration),
        _describe(output_gradient, configuration.queries, configuration), log_sum, delta, query_gradient,
        TensorDescriptor(query_gradient, [total, rows], [rows, 1], block) if reduce else query_gradient, *others,
        lists.blocks, lists.counts, lists.tiles, *_pointers(extras, lists),
        *_strides(query, key, value, output_gradient), total, lists.tiles.shape[1],
        rules.scale, 1 / rules.normaliser, rules.window, rules.prefix,
        **_constants(rules, extras, query, configuration),
        ADD_QUERY=add_query, REDUCE=reduce,
        **configuration.launch_options(),
    )  # fmt: skip


def _by_query(
    read: tuple[Tensor, ...], query_gradient: Tensor, lists: TileLists, rules: AttentionRules, extras: Extras
) -> None:
    query, key, value, output_gradient, log_sum, delta = read
    total, heads, head_dim = query.shape
    configuration = forward_configuration(architecture(query.device), head_dim, query.dtype)
    attention_backward_by_query[(len(lists.blocks), heads)](
        *_describe_all(query, key, value, configuration),
        _describe(output_gradient, configuration.queries, configuration), log_sum, delta, query_gradient,
        lists.blocks, lists.counts, lists.tiles, *_pointers(extras, lists),
        *_strides(query, key, value, output_gradient), total, lists.tiles.shape[1],
        rules.scale, 1 / rules.normaliser, rules.window, rules.prefix,
        **_constants(rules, extras, query, configuration),
        **configuration.launch_options(),
    )  # fmt: skip


def _strides(*packed: Tensor) -> list[int]:
    """Of rows, then of heads."""
    return [tensor.stride(dim) for dim in (0, 1) for tensor in packed]


def _describe_all(
    query: Tensor, key: Tensor, value: Tensor, configuration: Configuration
) -> tuple[object, ...]:
    """Query, Key, Value, KeyTiles, ValueTiles of the kernels by query."""
    return (
        _describe(query, configuration.queries, configuration),
        key,
        value,
        _describe(key, configuration.keys, configuration),
        _describe(value, configuration.keys, configuration),
    )


def _describe(packed: Tensor, rows: int, configuration: Configuration) -> TensorDescriptor | Tensor:
    """Packed [total, heads, head_dim] as the kernels' load_rows wants it.

    The descriptor is of a matrix with the tensor's own row stride, in blocks of one head: a view into a fused
    projection has rows longer than heads * head_dim (generative-recommenders#583).
    """
    if not configuration.tma:
        return packed
    total, heads, head_dim = packed.shape
    width = (heads - 1) * packed.stride(1) + head_dim
    return TensorDescriptor(packed, [total, width], [packed.stride(0), 1], [rows, head_dim])


def _pointers(extras: Extras, lists: TileLists) -> list[Tensor]:
    """Time and the two tables; any tensor stands for one that the kernel, compiled without it, never reads."""
    tensors = (extras.time, extras.position_bias, extras.time_bias)
    return [lists.counts if tensor is None else tensor for tensor in tensors]


def _constants(
    rules: AttentionRules, extras: Extras, query: Tensor, configuration: Configuration
) -> dict[str, int | bool | str]:
    return kernel_constants(rules.kind, *extras.num_buckets, query.shape[2], query.dtype, configuration)


def _table_sums(query: Tensor, lists: TileLists, extras: Extras) -> Tensor:
    """fp32 [blocks, heads, 2, padded buckets], zero where a block is none."""
    tables = [table for table in (extras.position_bias, extras.time_bias) if table is not None]
    blocks = len(lists.blocks) if tables else 0
    width = max((1 << (table.shape[1] - 1).bit_length() for table in tables), default=1)
    return torch.zeros(blocks, query.shape[1], 2, max(width, 2), dtype=torch.float32, device=query.device)
