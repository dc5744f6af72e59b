"""attend_padded and attend_last_padded: attention of padded batches, in operations that ONNX has."""

import torch
from torch import Tensor
from torch.nn import functional

from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.groups import is_plain
from footfall_kernels.attention.pairs import look_up, number, number_pairs, pair_table, weigh
from footfall_kernels.attention.rules import AttentionRules
from footfall_kernels.buckets import bucket_by_logarithm


def attend_padded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rules: AttentionRules,
    *,
    time: Tensor | None = None,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
) -> Tensor:
    """As `attention`, of histories filled from the left: [batch, heads, length, head_dim] each, and so the result.

    Padding stands behind every real event, so the causal mask hides it; what its own rows become means nothing.
    time int32 [batch, length, 2], seconds, at most 2**31 - 1 apart; tables [heads, buckets]. Differentiable by
    autograd; traceable with any batch and length left free.
    """
    extras = Extras(None, time, position_bias, time_bias)
    if is_plain(rules, extras):
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=rules.scale)
    pair = number_pairs(
        0, query.shape[2], rules, extras.num_buckets, bucket_by_logarithm,
        device=query.device, time=time,
    )  # fmt: skip
    return _attend(query, key, value, pair, rules, extras)


def attend_last_padded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    length: Tensor,
    rules: AttentionRules,
    *,
    time: Tensor | None = None,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
) -> Tensor:
    """The rows of `attend_padded` that belong to each history's last event: [batch, heads, 1, head_dim].

    query is of these events alone, [batch, heads, 1, head_dim]; length int [batch, 1] events of each history, where 0
    counts as 1. Without window and prefix. The rest as there.
    """
    extras = Extras(None, time, position_bias, time_bias)
    last = (length.long() - 1).clamp(min=0).unsqueeze(2)  # [batch, 1, 1]
    distance = last - torch.arange(key.shape[2], device=key.device)
    visible = distance >= 0
    if is_plain(rules, extras):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=visible.unsqueeze(1), scale=rules.scale
        )
    elapsed = None
    if time is not None:
        now = time[..., 1].gather(1, last.squeeze(2)).unsqueeze(2)
        elapsed = now - time[:, None, :, 0]
    pair = number(distance, elapsed, visible, extras.num_buckets, bucket_by_logarithm)
    return _attend(query, key, value, pair, rules, extras)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, pair: Tensor, rules: AttentionRules, extras: Extras
) -> Tensor:
    """pair int64 [batch or 1, queries, keys]: the number of each (see footfall_kernels.attention.pairs)."""
    wide = query.new_zeros((), dtype=torch.promote_types(query.dtype, torch.float32))
    table = pair_table(rules.kind, extras.position_bias, extras.time_bias, wide)
    bias = look_up(table, pair).transpose(0, 1)
    scores = torch.matmul(query, key.transpose(2, 3)).to(bias.dtype) * rules.scale + bias
    return torch.matmul(weigh(scores, rules).to(value.dtype), value)
