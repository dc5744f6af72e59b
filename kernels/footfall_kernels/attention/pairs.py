"""Pairs of a query and a key: one number says whether they see each other, and which bias is theirs.

It is a cell of the two bias tables' sums, position bucket by time bucket, with one cell more for pairs that do not
see each other. So masks cost the reference nothing beside the bias, and layers can share the numbers.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.rules import NO_WINDOW, AttentionRules, Kind

SILU_HIDDEN = -1e30
"""Finite, because -inf * sigmoid(-inf) is NaN; sigmoid(-1e30) is 0, and so are silu and its derivative."""


def number_pairs(
    start: int,
    end: int,
    rules: AttentionRules,
    num_buckets: tuple[int, int],
    bucket_of: Callable[[Tensor, int], Tensor],
    *,
    device: torch.device,
    time: Tensor | None = None,
    history: Tensor | None = None,
) -> Tensor:
    """Queries at start:end of padded sequences by keys at :end, int64 [sequences or 1, end - start, end].

    time int [sequences, length, 2]; history int64 [sequences]: events before the candidates, None where all are.
    """
    row = torch.arange(start, end, device=device)[:, None]
    column = torch.arange(end, device=device)
    position = row if history is None else torch.minimum(row, history[:, None, None])
    distance = position - column  # [sequences or 1, rows, columns], or [rows, columns]
    visible = distance >= 0
    if rules.window != NO_WINDOW:
        visible = visible & ((distance < rules.window) | (column < rules.prefix))
    if history is not None:
        visible = visible & (column < history[:, None, None]) | (column == row)
    elapsed = None if time is None else time[:, start:end, None, 1] - time[:, None, :end, 0]
    pair = number(distance, elapsed, visible, num_buckets, bucket_of)
    return pair if pair.dim() == 3 else pair[None]


def number(
    distance: Tensor,
    elapsed: Tensor | None,
    visible: Tensor,
    num_buckets: tuple[int, int],
    bucket_of: Callable[[Tensor, int], Tensor],
) -> Tensor:
    """Pairs by how many events and seconds lie between them, and whether they see each other: int64, broadcast."""
    num_position, num_time = num_buckets
    cell = torch.zeros_like(distance)
    if num_position:
        cell = bucket_of(distance, num_position) * max(num_time, 1)
    if num_time:
        assert elapsed is not None
        cell = cell + bucket_of(elapsed, num_time)
    return torch.where(visible, cell, max(num_position, 1) * max(num_time, 1))


def pair_table(kind: Kind, position_bias: Tensor | None, time_bias: Tensor | None, like: Tensor) -> Tensor:
    """The bias of every pair number, [heads or 1, cells + 1], in the dtype and on the device of `like`."""
    cells = like.new_zeros(1, 1, 1)
    if position_bias is not None:
        cells = cells + position_bias[:, :, None]
    if time_bias is not None:
        cells = cells + time_bias[:, None, :]
    cells = cells.flatten(1)
    hidden = -math.inf if kind == "softmax" else SILU_HIDDEN
    return torch.cat([cells, cells.new_full((cells.shape[0], 1), hidden)], dim=1)


def look_up(table: Tensor, pair: Tensor) -> Tensor:
    """[heads or 1, cells + 1] by [sequences or 1, rows, columns] -> [heads or 1, sequences or 1, rows, columns]."""
    # 0.35 ms where table[:, pair] takes 0.67 (2 heads, 320,000 pairs, 2 cores of an AMD EPYC).
    return table.index_select(1, pair.flatten()).view(-1, *pair.shape)


def weigh(scores: Tensor, rules: AttentionRules) -> Tensor:
    """What each key's value counts for."""
    if rules.kind == "softmax":
        return scores.softmax(-1)
    return functional.silu(scores).div_(rules.normaliser)


def differentiate(scores: Tensor, weight: Tensor, weight_gradient: Tensor, rules: AttentionRules) -> Tensor:
    """Gradient of the scores, of which `weigh` made `weight`."""
    aten = torch.ops.aten
    gradient: Tensor = (
        aten._softmax_backward_data(weight_gradient, weight, -1, scores.dtype)
        if rules.kind == "softmax"
        else aten.silu_backward(weight_gradient.div_(rules.normaliser), scores)
    )
    return gradient


def table_gradients(gradient: Tensor | None, extras: Extras) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of position_bias and time_bias from that of their pair_table."""
    if gradient is None:
        return None, None
    num_position, num_time = extras.num_buckets
    cells = gradient[:, :-1].view(-1, max(num_position, 1), max(num_time, 1))
    position, time = (
        None if table is None else cells.sum(dim).to(table.dtype)
        for table, dim in ((extras.position_bias, 2), (extras.time_bias, 1))
    )
    return position, time
