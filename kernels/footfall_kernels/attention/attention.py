"""attention: packed histories attend to their past, softmax or SiLU, with position and time-gap bias.

Each history is as long as it is; nothing is padded. HSTU (arXiv 2402.17152) is kind "silu"; a transformer "softmax".
"""

import torch
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.attention.configurations import FIRST_FP8_ARCH
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.operator import attention_operator
from footfall_kernels.attention.plan import AttentionPlan, plan_attention
from footfall_kernels.attention.rules import MAX_LENGTH, NO_WINDOW, AttentionRules, Kind
from footfall_kernels.attention.tile_plan import MAX_BUCKETS
from footfall_kernels.checks import FLOATS, INTEGERS, check_head_dim, check_implementation, check_tensor
from footfall_kernels.launch import INTERPRETER_ARCH, architecture

FP8 = torch.float8_e4m3fn


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
    """What each event gathers from those it sees: [total, heads, head_dim], as `value`.

    query, key, value: fp32, fp16 or bf16 [total, heads, head_dim], views into a fused projection as well; the kernels
    take head_dim 32, 64 and 128, the reference any, and fp64 with fp64 tables. Sequence s owns the rows
    offsets[s]:offsets[s + 1], offsets int [sequences + 1], none longer than max_length.
    Rules (see AttentionRules): kind, scale (default 1 / sqrt(head_dim)), normaliser (silu), window, prefix;
    num_candidates int [sequences]: the last so many events of each.
    Bias, added to the scaled score: position_bias fp32 [heads, buckets] by the places between two events, time_bias
    fp32 [heads, buckets] by the seconds between them. Bucket b holds the distances of b bits.
    time int32 [total, 2]: when each event happened, as those that see it take it, and when it looks back itself.
    plan: of `plan_attention`, made once a batch; without one, offsets are checked and the batch planned here.
    fp8, for inference: query and key float8_e4m3fn beside a value of fp16 or bf16; `scale` then holds what they were
    divided by to fit. "triton" needs sm_89 for it.
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
    output: Tensor = attention_operator(
        query, key, value, num_candidates, time, position_bias, time_bias, plan.tensors,
        implementation, kind, rules.scale, normaliser, window, prefix, deterministic,
    )[0]  # fmt: skip
    return output


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    extras: Extras,
    max_length: int,
    implementation: str,
) -> None:
    floats = (*FLOATS, FP8, torch.float64) if implementation == "reference" else (*FLOATS, FP8)
    check_tensor("query", query, (None, None, None), floats)
    total, heads, head_dim = query.shape
    check_head_dim(head_dim, implementation)
    if head_dim < 1:
        raise InputError(f"head_dim is {head_dim}, it must be at least 1")
    of_value = (torch.float16, torch.bfloat16) if query.dtype == FP8 else (query.dtype,)
    if query.dtype == FP8:
        _check_fp8(query, value, extras, implementation)
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        expected = of_value if name == "value" else (query.dtype,)
        check_tensor(name, tensor, (total, heads, head_dim), expected, like=query)
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
        check_tensor("time", extras.time, (total, 2), (torch.int32,), like=query)
        if not extras.time.is_contiguous():
            raise InputError(f"time has strides {extras.time.stride()}, expected contiguous rows")
    wide = torch.promote_types(value.dtype, torch.float32)
    for name, table in (("position_bias", extras.position_bias), ("time_bias", extras.time_bias)):
        if table is not None:
            check_tensor(name, table, (heads, None), (wide,), like=query)
            if not 2 <= table.shape[1] <= MAX_BUCKETS:
                raise InputError(f"{name} has {table.shape[1]} buckets, it must have 2 to {MAX_BUCKETS}")


def _check_fp8(query: Tensor, value: Tensor, extras: Extras, implementation: str) -> None:
    tensors = (query, value, extras.position_bias, extras.time_bias)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        raise InputError("query is float8_e4m3fn, which is for inference, and a gradient is asked for")
    if implementation == "triton" and INTERPRETER_ARCH < architecture(query.device) < FIRST_FP8_ARCH:
        raise InputError(
            f"query is float8_e4m3fn, which needs sm_{FIRST_FP8_ARCH}; this is sm_{architecture(query.device)}"
        )
