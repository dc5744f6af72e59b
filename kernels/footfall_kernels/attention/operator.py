"""The operator torch.ops.footfall.attention: both implementations and their gradients, as torch.compile sees them.

The kernels are imported where they run, because the reference runs where there is no triton.
"""

from typing import Any

import torch
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.attention import reference
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.groups import Groups
from footfall_kernels.attention.plan import tiles_of
from footfall_kernels.attention.rules import AttentionRules


def _check_rows(name: str, tensor: Tensor) -> None:
    """The kernels' loads take 16 bytes at once; not seen by torch.compile, which knows no storage offset."""
    if tensor.stride(0) * tensor.element_size() % 16 or tensor.storage_offset() * tensor.element_size() % 16:
        raise InputError(
            f"{name} has rows of stride {tensor.stride(0)} that do not begin at multiples of 16 bytes"
        )


@torch.library.custom_op("footfall::attention", mutates_args=())
def attention_operator(
    query: Tensor, key: Tensor, value: Tensor, num_candidates: Tensor | None, time: Tensor | None,
    position_bias: Tensor | None, time_bias: Tensor | None, plan: list[Tensor], implementation: str,
    kind: str, scale: float, normaliser: float, window: int, prefix: int, deterministic: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Output, and what the backward pass needs of softmax rows. plan: tensors of an AttentionPlan."""
    rules = AttentionRules(kind, scale, normaliser, window, prefix)  # type: ignore[arg-type]
    extras = Extras(num_candidates, time, position_bias, time_bias)
    if implementation == "reference":
        if query.dtype != value.dtype:  # fp8, which every other type holds
            query, key = query.to(value.dtype), key.to(value.dtype)
        return reference.forward(query, key, value, Groups.of(plan), rules, extras)
    from footfall_kernels.attention import launcher as triton

    for name, tensor in (("query", query), ("key", key), ("value", value)):
        _check_rows(name, tensor)
    return triton.forward(query, key, value, tiles_of(plan).by_query, rules, extras)


@attention_operator.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, num_candidates: Tensor | None, time: Tensor | None,
    position_bias: Tensor | None, time_bias: Tensor | None, plan: list[Tensor], implementation: str,
    kind: str, scale: float, normaliser: float, window: int, prefix: int, deterministic: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    total, heads, _ = query.shape
    if implementation == "reference":
        rules = AttentionRules(kind, scale, normaliser, window, prefix)  # type: ignore[arg-type]
        extras = Extras(num_candidates, time, position_bias, time_bias)
        saved = (reference.num_saved(value, Groups.of(plan), rules, extras), heads)
    else:
        saved = (heads, total) if kind == "softmax" else (0, 0)
    return _like(value), value.new_empty(saved, dtype=reference.wide(value))


@torch.library.custom_op("footfall::attention_backward", mutates_args=())
def _attention_backward(
    output_gradient: Tensor, output: Tensor, log_sum: Tensor,
    query: Tensor, key: Tensor, value: Tensor, num_candidates: Tensor | None, time: Tensor | None,
    position_bias: Tensor | None, time_bias: Tensor | None, plan: list[Tensor], implementation: str,
    kind: str, scale: float, normaliser: float, window: int, prefix: int, deterministic: bool,
) -> list[Tensor]:  # fmt: skip
    """Gradients of query, key, value, and of the tables there are."""
    rules = AttentionRules(kind, scale, normaliser, window, prefix)  # type: ignore[arg-type]
    extras = Extras(num_candidates, time, position_bias, time_bias)
    saved = (query, key, value, output, log_sum)
    if implementation == "reference":
        gradients = reference.backward(output_gradient, saved, Groups.of(plan), rules, extras)
    else:
        from footfall_kernels.attention import launcher as triton

        tiles = tiles_of(plan)
        gradients = triton.backward(output_gradient, saved, tiles, rules, extras, deterministic=deterministic)
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
    *tensors, plan = inputs[:8]
    ctx.options = inputs[8:]
    ctx.num_planned = len(plan)
    ctx.save_for_backward(*output, *tensors, *plan)


def _differentiate(ctx: Any, output_gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
    split = len(ctx.saved_tensors) - ctx.num_planned
    tensors, plan = ctx.saved_tensors[:split], list(ctx.saved_tensors[split:])
    gradients = iter(torch.ops.footfall.attention_backward(output_gradient, *tensors, plan, *ctx.options))
    query, key, value = next(gradients), next(gradients), next(gradients)
    tables = [None if table is None else next(gradients) for table in tensors[-2:]]
    return query, key, value, None, None, *tables, [None] * len(plan), *[None] * len(ctx.options)


attention_operator.register_autograd(_differentiate, setup_context=_save)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)
