"""attention: packed histories attend to their past, softmax or SiLU, with position and time-gap bias.

Each history is as long as it is; nothing is padded. HSTU (arXiv 2402.17152) is kind "silu"; a transformer "softmax".
"""

from typing import Any

import torch
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.attention_extras import Extras
from footfall_kernels.attention_groups import Groups
from footfall_kernels.attention_plan import AttentionPlan as AttentionPlan
from footfall_kernels.attention_plan import plan_attention as plan_attention
from footfall_kernels.attention_reference import attention_reference
from footfall_kernels.attention_rules import MAX_LENGTH, NO_WINDOW, AttentionRules, Kind
from footfall_kernels.attention_triton import backward, forward
from footfall_kernels.checks import FLOATS, INTEGERS, check_implementation, check_tensor
from footfall_kernels.tile_plan import MAX_BUCKETS, TileLists, TilePlan

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
    plan: AttentionPlan | None = None,
    deterministic: bool = False,
) -> Tensor:
    """What each event gathers from those it sees: [total, heads, head_dim], as `query`.

    query, key, value: fp32, fp16 or bf16 [total, heads, head_dim], views into a fused projection as well; the kernels
    take head_dim 32, 64 and 128, the reference any. Sequence s owns the rows offsets[s]:offsets[s + 1], offsets int
    [sequences + 1], none longer than max_length.
    Rules (see AttentionRules): kind, scale (default 1 / sqrt(head_dim)), normaliser (silu), window, prefix;
    num_candidates int [sequences]: the last so many events of each.
    Bias, added to the scaled score: position_bias fp32 [heads, buckets] by the places between two events, time_bias
    fp32 [heads, buckets] by the seconds between their `time` int32 [total]; bucket b holds the distances of b bits.
    plan: of `plan_attention`, made once a batch; without one, offsets are checked and the batch planned here.
    deterministic: gradients have the same bits each time, at seven matrix products instead of five; the reference's
    always have.
    Raises InputError before any launch.
    """
    extras = Extras(num_candidates, time, position_bias, time_bias)
    check_implementation(implementation, query)
    _check(query, key, value, offsets, extras, max_length, implementation)
    scale = query.shape[2] ** -0.5 if scale is None else scale
    rules = AttentionRules(kind, scale, normaliser, window, prefix)
    if plan is None:
        plan = plan_attention(query, offsets, rules, max_length, extras, implementation=implementation)
    plan.check(implementation, len(query), rules, extras)
    if isinstance(plan.parts, Groups):
        return attention_reference(query, key, value, plan.parts, rules, extras)
    output, _ = torch.ops.footfall.attention(
        query, key, value, num_candidates, time, position_bias, time_bias, plan.tensors,
        kind, rules.scale, normaliser, window, prefix, deterministic,
    )  # fmt: skip
    return output  # type: ignore[no-any-return]


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    extras: Extras,
    max_length: int,
    implementation: str,
) -> None:
    check_tensor("query", query, (None, None, None), FLOATS)
    total, heads, head_dim = query.shape
    if implementation == "triton" and head_dim not in HEAD_DIMS:
        raise InputError(f"head_dim is {head_dim}; there are kernels for {', '.join(map(str, HEAD_DIMS))}")
    if head_dim < 1:
        raise InputError(f"head_dim is {head_dim}, it must be at least 1")
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
