"""attention: packed histories attend to their past, softmax or SiLU, with position and time-gap bias.

Each history is as long as it is; nothing is padded. HSTU (arXiv 2402.17152) is kind "silu"; a transformer "softmax".
"""

from typing import Any

import torch
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.attention_configurations import (
    backward_configuration,
    forward_configuration,
)
from footfall_kernels.attention_reference import Extras, attention_reference
from footfall_kernels.attention_rules import MAX_LENGTH, NO_WINDOW, AttentionRules, Kind
from footfall_kernels.attention_triton import backward, forward
from footfall_kernels.checks import FLOATS, INTEGERS, check_implementation, check_offsets, check_tensor
from footfall_kernels.launch import architecture
from footfall_kernels.tile_plan import MAX_BUCKETS, TileLists, TilePlan, TileShape, list_tiles

HEAD_DIMS = (32, 64, 128)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    *,
    implementation: str,
    kind: Kind,
    max_length: int,
    scale: float | None = None,
    normaliser: float = 1.0,
    window: int = NO_WINDOW,
    prefix: int = 0,
    num_candidates: Tensor | None = None,
    time: Tensor | None = None,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
    plan: TilePlan | None = None,
    deterministic: bool = False,
) -> Tensor:
    """What each event gathers from those it sees: [total, heads, head_dim], as `query`.

    query, key, value: fp32, fp16 or bf16 [total, heads, head_dim], views into a fused projection as well; sequence s
    owns the rows offsets[s]:offsets[s + 1], offsets int [sequences + 1], none longer than max_length.
    Rules (see AttentionRules): kind, scale (default 1 / sqrt(head_dim)), normaliser (silu), window, prefix;
    num_candidates int [sequences]: the last so many events of each.
    Bias, added to the scaled score: position_bias fp32 [heads, buckets] by the places between two events, time_bias
    fp32 [heads, buckets] by the seconds between their `time` int32 [total]; bucket b holds the distances of b bits.
    plan: of `plan_tiles`, made once a batch; without one, offsets are checked and tiles planned here.
    deterministic: gradients have the same bits each time, at seven matrix products instead of five.
    Raises InputError before any launch.
    """
    rules = AttentionRules(
        kind, query.shape[-1] ** -0.5 if scale is None else scale, normaliser, window, prefix
    )
    extras = Extras(num_candidates, time, position_bias, time_bias)
    check_implementation(implementation, query)
    _check(query, key, value, offsets, extras, max_length)
    if implementation == "reference":
        if plan is None:
            _check_lengths(offsets, len(query), max_length, num_candidates)
        return attention_reference(query, key, value, offsets, rules, extras)
    if plan is None:
        plan = plan_tiles(query, offsets, rules, max_length, extras)
    lists = [*vars(plan.by_query).values(), *vars(plan.by_key).values()]
    output, _ = torch.ops.footfall.attention(
        query, key, value, num_candidates, time, position_bias, time_bias, lists,
        kind, rules.scale, normaliser, window, prefix, deterministic,
    )  # fmt: skip
    return output  # type: ignore[no-any-return]


def plan_tiles(
    query: Tensor, offsets: Tensor, rules: AttentionRules, max_length: int, extras: Extras
) -> TilePlan:
    """The plan of a batch for every layer of this head_dim, dtype and these rules; `query` lends its shape only.

    Checks the offsets, which on a GPU waits for them.
    """
    _check_lengths(offsets, len(query), max_length, extras.num_candidates)
    arch, head_dim = architecture(query.device), query.shape[2]
    forward = forward_configuration(arch, head_dim, query.dtype)
    backward = backward_configuration(arch, head_dim, query.dtype)
    buckets = [0 if table is None else table.shape[1] for table in (extras.position_bias, extras.time_bias)]

    def lists(shape: TileShape, by_key: bool) -> TileLists:
        time = extras.time if buckets[1] else None
        return list_tiles(
            offsets, max_length, rules, shape, by_key=by_key, num_candidates=extras.num_candidates, time=time,
            num_position_buckets=buckets[0], num_time_buckets=buckets[1], total=len(query),
        )  # fmt: skip

    return TilePlan(
        lists(TileShape(forward.queries, forward.keys), by_key=False),
        lists(TileShape(backward.queries, backward.keys), by_key=True),
    )


def _check(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, extras: Extras, max_length: int
) -> None:
    check_tensor("query", query, (None, None, None), FLOATS)
    total, heads, head_dim = query.shape
    if head_dim not in HEAD_DIMS:
        raise InputError(f"head_dim is {head_dim}; there are kernels for {', '.join(map(str, HEAD_DIMS))}")
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        check_tensor(name, tensor, (total, heads, head_dim), (query.dtype,), like=query)
        if tensor.stride(2) != 1:
            raise InputError(f"{name} has stride {tensor.stride(2)} along head_dim, expected 1")
    check_tensor("offsets", offsets, (None,), INTEGERS, like=query)
    if not 0 <= max_length <= MAX_LENGTH:
        raise InputError(f"max_length is {max_length}, it must be in 0..{MAX_LENGTH}")
    if extras.num_candidates is not None:
        check_tensor("num_candidates", extras.num_candidates, (len(offsets) - 1,), INTEGERS, like=query)
    if extras.time_bias is not None:
        if extras.time is None:
            raise InputError("time_bias is given without time")
        check_tensor("time", extras.time, (total,), (torch.int32,), like=query)
    for name, table in (("position_bias", extras.position_bias), ("time_bias", extras.time_bias)):
        if table is not None:
            check_tensor(name, table, (heads, None), (torch.float32,), like=query)
            if not 2 <= table.shape[1] <= MAX_BUCKETS:
                raise InputError(f"{name} has {table.shape[1]} buckets, it must have 2 to {MAX_BUCKETS}")


def _check_lengths(offsets: Tensor, total: int, max_length: int, num_candidates: Tensor | None) -> None:
    check_offsets(offsets, total, max_length)
    if num_candidates is None:
        return
    for sequence, (count, length) in enumerate(
        zip(num_candidates.tolist(), offsets.diff().tolist(), strict=True)
    ):
        if not 0 <= count <= length:
            raise InputError(
                f"num_candidates of sequence {sequence} is {count}, more than its {length} events"
            )


def _check_rows(name: str, tensor: Tensor) -> None:
    """The kernels' loads take 16 bytes at once; not seen by torch.compile, which knows no storage offset."""
    if tensor.stride(0) * tensor.element_size() % 16 or tensor.storage_offset() * tensor.element_size() % 16:
        raise InputError(
            f"{name} has rows of stride {tensor.stride(0)} that do not begin at multiples of 16 bytes"
        )


@torch.library.custom_op("footfall::attention", mutates_args=())
def _attention(
    query: Tensor, key: Tensor, value: Tensor, num_candidates: Tensor | None, time: Tensor | None,
    position_bias: Tensor | None, time_bias: Tensor | None, lists: list[Tensor],
    kind: str, scale: float, normaliser: float, window: int, prefix: int, deterministic: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The Triton kernels: output, and what their backward pass needs of softmax rows."""
    rules = AttentionRules(kind, scale, normaliser, window, prefix)  # type: ignore[arg-type]
    extras = Extras(num_candidates, time, position_bias, time_bias)
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        _check_rows(name, tensor)
    return forward(query, key, value, _unpack(lists).by_query, rules, extras)


@_attention.register_fake
def _(query: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
    kind = inputs[7]
    saved = (query.shape[1], query.shape[0]) if kind == "softmax" else (0, 0)
    return _like(query), query.new_empty(saved, dtype=torch.float32)


@torch.library.custom_op("footfall::attention_backward", mutates_args=())
def _attention_backward(
    output_gradient: Tensor, output: Tensor, log_sum: Tensor,
    query: Tensor, key: Tensor, value: Tensor, num_candidates: Tensor | None, time: Tensor | None,
    position_bias: Tensor | None, time_bias: Tensor | None, lists: list[Tensor],
    kind: str, scale: float, normaliser: float, window: int, prefix: int, deterministic: bool,
) -> list[Tensor]:  # fmt: skip
    """Gradients of query, key, value, and of the tables there are."""
    rules = AttentionRules(kind, scale, normaliser, window, prefix)  # type: ignore[arg-type]
    extras = Extras(num_candidates, time, position_bias, time_bias)
    saved = (query, key, value, output, log_sum)
    gradients = backward(output_gradient, saved, _unpack(lists), rules, extras, deterministic=deterministic)
    return [gradient for gradient in gradients if gradient is not None]


@_attention_backward.register_fake
def _(
    output_gradient: Tensor,
    output: Tensor,
    log_sum: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *inputs: Any,
) -> list[Tensor]:
    tables = inputs[2:4]
    return [_like(tensor) for tensor in (query, key, value, *tables) if tensor is not None]


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, lists, ctx.kind, ctx.scale, ctx.normaliser, ctx.window, ctx.prefix, ctx.deterministic = inputs
    ctx.num_lists = len(lists)
    ctx.save_for_backward(*output, *tensors, *lists)


def _differentiate(ctx: Any, output_gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
    split = len(ctx.saved_tensors) - ctx.num_lists
    tensors, lists = ctx.saved_tensors[:split], list(ctx.saved_tensors[split:])
    options = (ctx.kind, ctx.scale, ctx.normaliser, ctx.window, ctx.prefix, ctx.deterministic)
    gradients = iter(torch.ops.footfall.attention_backward(output_gradient, *tensors, lists, *options))
    query, key, value = next(gradients), next(gradients), next(gradients)
    tables = [None if table is None else next(gradients) for table in tensors[-2:]]
    return query, key, value, None, None, *tables, [None] * ctx.num_lists, *[None] * len(options)


_attention.register_autograd(_differentiate, setup_context=_save)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _unpack(lists: list[Tensor]) -> TilePlan:
    return TilePlan(TileLists(*lists[:3]), TileLists(*lists[3:]))
