"""embed_events: what an event means to the model, as one vector, for packed events in one pass.

The input of a sequential recommender (SASRec, arXiv 1808.09781; HSTU, arXiv 2402.17152): item and action, scaled as
in Attention Is All You Need (arXiv 1706.03762), with position and time gap added.
"""

from typing import Any

import torch
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.checks import FLOATS, INTEGERS, check_implementation, check_tensor
from footfall_kernels.embed_events import reference

NAMES = ("item", "action", "gap", "position")


def embed_events(
    item: Tensor,
    action: Tensor,
    gap: Tensor,
    position: Tensor,
    item_table: Tensor,
    action_table: Tensor,
    gap_table: Tensor,
    position_table: Tensor,
    *,
    implementation: str,
    scale: float,
    sparse: bool = False,
) -> Tensor:
    """(item_table[item] + action_table[action]) * scale + position_table[position] + gap_table[gap] -> [events, d].

    item, action, gap, position: int32 or int64 [events], all of one dtype. Tables [rows, d], all fp32, fp16 or bf16,
    the output's dtype; sums are fp32 and rounded once. Gradients go to the tables and do not depend on the order in
    which a chip schedules its work. The gradient of item_table is dense, zeros in rows that no event reads, or with
    `sparse` a COO tensor of the rows that one reads, each once, which costs a synchronisation. `implementation`:
    "reference" (torch) or "triton" (GPU, or the interpreter).

    Every index must lie in its table. On a CPU an index outside raises InputError, as do wrong shapes, dtypes and
    devices anywhere; on a GPU, where looking would stop the stream, it reads or writes memory of others.
    """
    indices = (item, action, gap, position)
    tables = (item_table, action_table, gap_table, position_table)
    for name, index in zip(NAMES, indices, strict=True):
        check_tensor(name, index, [item.shape[0] if item.dim() else None], INTEGERS, like=item)
        if index.dtype != item.dtype:
            raise InputError(f"{name} is {index.dtype}, item is {item.dtype}; all four must be the same")
    for name, table in zip(NAMES, tables, strict=True):
        width = item_table.shape[1] if item_table.dim() == 2 else None
        check_tensor(f"{name}_table", table, [None, width], FLOATS, like=item)
        if table.dtype != item_table.dtype:
            raise InputError(
                f"{name}_table is {table.dtype}, item_table {item_table.dtype}; all must be the same"
            )
    check_implementation(implementation, item, item_table)
    output: Tensor = _embed_events(*indices, *tables, scale, sparse, implementation)
    return output


@torch.library.custom_op("footfall::embed_events", mutates_args=())
def _embed_events(
    item: Tensor,
    action: Tensor,
    gap: Tensor,
    position: Tensor,
    item_table: Tensor,
    action_table: Tensor,
    gap_table: Tensor,
    position_table: Tensor,
    scale: float,
    sparse: bool,
    implementation: str,
) -> Tensor:
    indices = (item, action, gap, position)
    tables = (item_table, action_table, gap_table, position_table)
    _check_range(indices, tables)
    return _chosen(implementation).embed(indices, tables, scale)  # type: ignore[no-any-return]


def _chosen(implementation: str) -> Any:
    """The module; the kernels' is imported where they run, because the reference runs where there is no triton."""
    if implementation == "reference":
        return reference
    from footfall_kernels.embed_events import launcher

    return launcher


@torch.library.custom_op("footfall::embed_events_backward", mutates_args=())
def _embed_events_backward(
    gradient: Tensor,
    item: Tensor,
    action: Tensor,
    gap: Tensor,
    position: Tensor,
    rows: list[int],
    scale: float,
    sparse: bool,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows of item_table that were touched (with `sparse`, else none), its gradient, and the other tables'."""
    gradient = gradient.contiguous()
    touched = item.new_empty(0, dtype=torch.int64)
    chosen = _chosen(implementation)
    if sparse:
        touched, of_item = chosen.touched_rows_gradient(gradient, item, scale)
    else:
        of_item = chosen.table_gradient(gradient, item, rows[0], scale)
    others = (action, gap, position)
    scales = (scale, 1.0, 1.0)
    of_others = chosen.other_gradients(gradient, others, rows[1:], scales)
    return (touched, of_item, *of_others)


@_embed_events.register_fake
def _(item: Tensor, action: Tensor, gap: Tensor, position: Tensor, item_table: Tensor, *_: Any) -> Tensor:
    return item_table.new_empty(item.shape[0], item_table.shape[1])


@_embed_events_backward.register_fake
def _(
    gradient: Tensor,
    item: Tensor,
    action: Tensor,
    gap: Tensor,
    position: Tensor,
    rows: list[int],
    scale: float,
    sparse: bool,
    implementation: str,
) -> tuple[Tensor, ...]:
    touched = torch.library.get_ctx().new_dynamic_size() if sparse else 0
    counts = [touched if sparse else rows[0], *rows[1:]]
    gradients = (gradient.new_empty(count, gradient.shape[1]) for count in counts)
    return (item.new_empty(touched, dtype=torch.int64), *gradients)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.rows = [table.shape[0] for table in inputs[4:8]]
    ctx.scale, ctx.sparse, ctx.implementation = inputs[8:]


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    touched, of_item, *of_others = _embed_events_backward(
        gradient, *ctx.saved_tensors, ctx.rows, ctx.scale, ctx.sparse, ctx.implementation
    )
    if ctx.sparse:
        size = (ctx.rows[0], of_item.shape[1])
        of_item = torch.sparse_coo_tensor(
            touched[None], of_item, size, is_coalesced=True, check_invariants=False
        )
    return (None, None, None, None, of_item, *of_others, None, None, None)


_embed_events.register_autograd(_gradients, setup_context=_keep)


def _check_range(indices: tuple[Tensor, ...], tables: tuple[Tensor, ...]) -> None:
    for name, index, table in zip(NAMES, indices, tables, strict=True):
        if index.device.type == "cpu" and len(index):
            low, high = (int(bound) for bound in index.aminmax())
            if low < 0 or high >= len(table):
                bad = low if low < 0 else high
                raise InputError(f"{name} holds {bad}, {name}_table has rows 0 to {len(table) - 1}")
