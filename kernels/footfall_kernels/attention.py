"""attention: packed histories attend to their past, softmax or SiLU, with position and time-gap bias.

Each history is as long as it is; nothing is padded. HSTU (arXiv 2402.17152) is kind "silu"; a transformer "softmax".
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.attention_configurations import architecture, backward_configuration, forward_configuration
from footfall_kernels.attention_reference import Extras, attention_reference
from footfall_kernels.attention_rules import MAX_LENGTH, NO_WINDOW, AttentionRules, Kind
from footfall_kernels.checks import FLOATS, INTEGERS, check_implementation, check_offsets, check_tensor
from footfall_kernels.launch import interpreted
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
    plan: of `plan_tiles`, made once a batch; by default made here. deterministic: gradients never vary.
    Raises InputError before any launch.
    """
    rules = AttentionRules(
        kind, query.shape[-1] ** -0.5 if scale is None else scale, normaliser, window, prefix
    )
    extras = Extras(num_candidates, time, position_bias, time_bias)
    check_implementation(implementation, query)
    _check(query, key, value, offsets, extras, max_length)
    lists: Sequence[Tensor] = ()
    if implementation == "triton":
        if plan is None:
            plan = plan_tiles(query, offsets, rules, max_length, extras)
        lists = [*vars(plan.by_query).values(), *vars(plan.by_key).values()]
    output, _ = torch.ops.footfall.attention(
        query, key, value, offsets, num_candidates, time, position_bias, time_bias, list(lists),
        implementation, kind, rules.scale, normaliser, window, prefix, deterministic,
    )  # fmt: skip
    return output  # type: ignore[no-any-return]


def plan_tiles(
    query: Tensor, offsets: Tensor, rules: AttentionRules, max_length: int, extras: Extras
) -> TilePlan:
    """The plan of a batch for every layer of this head_dim, dtype and these rules; `query` lends its shape only.

    Checks the offsets, which on a GPU waits for them.
    """
    check_offsets(offsets, len(query), max_length)
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
    for name, tensor in (("key", key), ("value", value)):
        check_tensor(name, tensor, (total, heads, head_dim), (query.dtype,), like=query)
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        _check_rows(name, tensor)
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
    if tensor.stride(2) != 1:
        raise InputError(f"{name} has stride {tensor.stride(2)} along head_dim, expected 1")
    if tensor.stride(0) * tensor.element_size() % 16 or tensor.storage_offset() * tensor.element_size() % 16:
        raise InputError(f"{name} has rows of stride {tensor.stride(0)} that do not begin at multiples of 16 bytes")


@torch.library.custom_op("footfall::attention", mutates_args=())
def _attention(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, num_candidates: Tensor | None, time: Tensor | None,
    position_bias: Tensor | None, time_bias: Tensor | None, lists: list[Tensor],
    implementation: str, kind: str, scale: float, normaliser: float, window: int, prefix: int, deterministic: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Output and what the Triton backward needs of softmax rows."""
    rules = AttentionRules(kind, scale, normaliser, window, prefix)  # type: ignore[arg-type]
    extras = Extras(num_candidates, time, position_bias, time_bias)
    if implementation == "reference":
        return attention_reference(query, key, value, offsets, rules, extras), query.new_empty(0, 0, dtype=torch.float32)
    from footfall_kernels.attention_triton import forward

    return forward(query, key, value, _unpack(lists).by_query, rules, extras)


@_attention.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, num_candidates: Tensor | None, time: Tensor | None,
    position_bias: Tensor | None, time_bias: Tensor | None, lists: list[Tensor],
    implementation: str, kind: str, scale: float, normaliser: float, window: int, prefix: int, deterministic: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    saved = (query.shape[1], query.shape[0]) if implementation == "triton" and kind == "softmax" else (0, 0)
    return torch.empty_like(query, memory_format=torch.contiguous_format), query.new_empty(saved, dtype=torch.float32)


@torch.library.custom_op("footfall::attention_backward", mutates_args=())
def _attention_backward(
    output_gradient: Tensor, output: Tensor, log_sum: Tensor,
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, num_candidates: Tensor | None, time: Tensor | None,
    position_bias: Tensor | None, time_bias: Tensor | None, lists: list[Tensor],
    implementation: str, kind: str, scale: float, normaliser: float, window: int, prefix: int, deterministic: bool,
) -> list[Tensor]:  # fmt: skip
    """Gradients of query, key, value, and of the tables there are."""
    rules = AttentionRules(kind, scale, normaliser, window, prefix)  # type: ignore[arg-type]
    extras = Extras(num_candidates, time, position_bias, time_bias)
    if implementation == "triton":
        from footfall_kernels.attention_triton import backward

        saved = (query, key, value, output, log_sum)
        gradients = backward(output_gradient, saved, _unpack(lists), rules, extras, deterministic=deterministic)
        return [gradient for gradient in gradients if gradient is not None]
    with torch.enable_grad():
        inputs = [None if tensor is None else tensor.detach().requires_grad_() for tensor in (query, key, value, position_bias, time_bias)]
        again = Extras(num_candidates, time, inputs[3], inputs[4])
        result = attention_reference(*inputs[:3], offsets, rules, again)
        return list(torch.autograd.grad(result, [tensor for tensor in inputs if tensor is not None], output_gradient))


@_attention_backward.register_fake
def _(
    output_gradient: Tensor, output: Tensor, log_sum: Tensor,
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, num_candidates: Tensor | None, time: Tensor | None,
    position_bias: Tensor | None, time_bias: Tensor | None, lists: list[Tensor],
    implementation: str, kind: str, scale: float, normaliser: float, window: int, prefix: int, deterministic: bool,
) -> list[Tensor]:  # fmt: skip
    tensors = (query, key, value, position_bias, time_bias)
    return [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in tensors if tensor is not None]


def _save(ctx, inputs, output):  # type: ignore[no-untyped-def]
    query, key, value, offsets, num_candidates, time, position_bias, time_bias, lists, *ctx.options = inputs
    ctx.num_lists = len(lists)
    ctx.save_for_backward(*output, query, key, value, offsets, num_candidates, time, position_bias, time_bias, *lists)


def _differentiate(ctx, output_gradient, _):  # type: ignore[no-untyped-def]
    saved = ctx.saved_tensors
    tensors, lists = saved[:10], list(saved[10:])
    gradients = iter(torch.ops.footfall.attention_backward(output_gradient, *tensors, lists, *ctx.options))
    query, key, value = next(gradients), next(gradients), next(gradients)
    tables = [None if table is None else next(gradients) for table in tensors[8:10]]
    return query, key, value, None, None, None, *tables, [None] * ctx.num_lists, *[None] * len(ctx.options)


_attention.register_autograd(_differentiate, setup_context=_save)


def _unpack(lists: list[Tensor]) -> TilePlan:
    return TilePlan(TileLists(*lists[:3]), TileLists(*lists[3:]))
