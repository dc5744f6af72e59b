"""embed_events in plain torch: the definition, and its gradients as sums over the events that read a row."""

import torch
from torch import Tensor
from torch.nn.functional import embedding


def embed(indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
    """Indices and tables in the order item, action, gap, position -> [events, d]; differentiable."""
    item, action, gap, position = (
        _accumulated(embedding(rows, table)) for rows, table in zip(indices, tables, strict=True)
    )
    return ((item + action) * scale + position + gap).to(tables[0].dtype)


def table_gradient(gradient: Tensor, indices: Tensor, rows: int, scale: float) -> Tensor:
    """[events, d] -> [rows, d]: scale * the sum of the gradients of the events that read each row."""
    wide = _accumulated(gradient)
    total = wide.new_zeros(rows, wide.shape[1]).index_add_(0, indices, wide)
    return total.mul_(scale).to(gradient.dtype)


def other_gradients(
    gradient: Tensor, indices: tuple[Tensor, ...], rows: list[int], scales: tuple[float, ...]
) -> list[Tensor]:
    """`table_gradient` of several small tables."""
    return [table_gradient(gradient, *each) for each in zip(indices, rows, scales, strict=True)]


def touched_rows_gradient(gradient: Tensor, indices: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """[events, d] -> the rows that any event read, ascending int64 [touched], and their gradients [touched, d]."""
    touched, rank = torch.unique(indices, return_inverse=True)
    return touched.long(), table_gradient(gradient, rank, len(touched), scale)


def _accumulated(table: Tensor) -> Tensor:
    """fp32 for the half precisions, whose sums would lose the small terms."""
    return table.float() if table.dtype in (torch.float16, torch.bfloat16) else table
