"""embed_events in Triton: one pass forward; backward by sorted segments, or for small tables by multi-hot products.

A gradient row is written by one program, and no sum depends on the order in which programs run.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from footfall_kernels.launch import Variant, upcast

BLOCK_EVENTS = 64
"""Sorted events a program sums: one tile of a tensor-core product."""
SWEEP_EVENTS = 32
"""Unsorted events a program holds at once; 64 spill in fp32."""
BLOCK_ROWS = 64
"""Rows of the small tables a program sums: what wgmma takes at least; half as many in fp32, where 64 spill."""
LINE = 128
"""Bytes of a row that a program holds at once."""
CHUNK = 1024
"""Events behind one partial sum of the small tables."""
SMALL = 256
"""Tables up to so many rows are summed by products with their multi-hot matrix; longer ones by sorted segments."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TURN = 32
"""Partial sums of a run that are added at a time."""


@triton.jit  # type: ignore[untyped-decorator]
def _embed(  # type: ignore[no-untyped-def]
    item, action, gap, position, item_table, action_table, gap_table, position_table, output,
    scale, events, width,
    BLOCK_EVENTS: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
):  # fmt: skip
    event = tl.program_id(0).to(tl.int64) * BLOCK_EVENTS + tl.arange(0, BLOCK_EVENTS)
    inside = event < events
    item_row = tl.load(item + event, mask=inside, other=0).to(tl.int64) * width
    action_row = tl.load(action + event, mask=inside, other=0).to(tl.int64) * width
    gap_row = tl.load(gap + event, mask=inside, other=0).to(tl.int64) * width
    position_row = tl.load(position + event, mask=inside, other=0).to(tl.int64) * width
    for start in range(0, width, BLOCK_WIDTH):
        column = start + tl.arange(0, BLOCK_WIDTH)
        mask = inside[:, None] & (column < width)[None, :]
        total = tl.load(item_table + item_row[:, None] + column[None, :], mask=mask).to(tl.float32)
        total += tl.load(action_table + action_row[:, None] + column[None, :], mask=mask).to(tl.float32)
        total *= scale
        total += tl.load(position_table + position_row[:, None] + column[None, :], mask=mask).to(tl.float32)
        total += tl.load(gap_table + gap_row[:, None] + column[None, :], mask=mask).to(tl.float32)
        place = output + event[:, None] * width + column[None, :]
        tl.store(place, total.to(output.dtype.element_ty), mask=mask)


@triton.jit  # type: ignore[untyped-decorator]
def _sum_within_blocks(  # type: ignore[no-untyped-def]
    gradient, order, rows, output, partials, scale, events, width,
    BLOCK_EVENTS: tl.constexpr, BLOCK_WIDTH: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Runs of equal `rows` (ascending) that lie in one block go to `output`; those that cross an edge to `partials`.

    partials fp32 [blocks, 2, width]: the run that came from the block before, and the one that goes on into the next.
    """
    block = tl.program_id(0).to(tl.int64)
    first = block * BLOCK_EVENTS
    place = first + tl.arange(0, BLOCK_EVENTS)
    column = tl.program_id(1) * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)
    inside = place < events
    row = tl.load(rows + place, mask=inside, other=-1)
    before = tl.load(rows + place - 1, mask=inside & (place > 0), other=-1)
    following = tl.load(rows + first + BLOCK_EVENTS, mask=first + BLOCK_EVENTS < events, other=-1)
    event = tl.load(order + place, mask=inside, other=0)
    values = tl.load(
        gradient + event[:, None] * width + column[None, :],
        mask=inside[:, None] & (column < width)[None, :],
        other=0.0,
    )
    if UPCAST:
        values = values.to(tl.float32)
    # 0 or 1 times a value is exact, so the product sums in fp32 what the rows hold.
    same = (row[:, None] == row[None, :]).to(values.dtype)
    total = tl.dot(same, values, input_precision="ieee")

    starts = inside & (row != before)
    goes_on = row == following
    in_width = (column < width)[None, :]
    finished = output + row.to(tl.int64)[:, None] * width + column[None, :]
    whole = starts & ~goes_on
    tl.store(finished, (total * scale).to(output.dtype.element_ty), mask=whole[:, None] & in_width)
    came = inside & (place == first) & ~starts
    left = starts & goes_on
    # `came` and `left` are one place each at most: every other place of the two runs holds the same sum.
    partial = partials + (block * 2 + left.to(tl.int64))[:, None] * width + column[None, :]
    tl.store(partial, total, mask=(came | left)[:, None] & in_width)


@triton.jit  # type: ignore[untyped-decorator]
def _sum_across_blocks(  # type: ignore[no-untyped-def]
    rows, output, partials, scale, events, blocks, width,
    BLOCK_EVENTS: tl.constexpr, BLOCK_WIDTH: tl.constexpr, TURN: tl.constexpr,
):  # fmt: skip
    """The block in which a run that crosses an edge starts adds up the run's partial sums, TURN blocks at a time."""
    block = tl.program_id(0).to(tl.int64)
    following = (block + 1) * BLOCK_EVENTS
    row = tl.load(rows + following - 1)
    begins = row != tl.load(rows + block * BLOCK_EVENTS - 1, mask=block > 0, other=-1)
    if (tl.load(rows + following, mask=following < events, other=-1) == row) & begins:
        column = tl.program_id(1) * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)
        in_width = column < width
        total = tl.load(partials + (block * 2 + 1) * width + column, mask=in_width, other=0.0)
        start = block + 1
        going = True
        while going:
            turn = start + tl.arange(0, TURN)
            came = tl.load(rows + turn * BLOCK_EVENTS, mask=turn < blocks, other=-1) == row
            place = partials + (turn * 2)[:, None] * width + column[None, :]
            total += tl.sum(tl.load(place, mask=came[:, None] & in_width[None, :], other=0.0), 0)
            start += TURN
            going = tl.min(came.to(tl.int32), 0) == 1
        place = output + row.to(tl.int64) * width + column
        tl.store(place, (total * scale).to(output.dtype.element_ty), mask=in_width)


@triton.jit  # type: ignore[untyped-decorator]
def _sum_small_tables(  # type: ignore[no-untyped-def]
    gradient, action, gap, position, partials,
    events, width, action_rows, gap_rows, position_rows,
    CHUNK: tl.constexpr, BLOCK_EVENTS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """partials fp32 [chunks, rows, width]: sums over a chunk of events, for the rows of the three tables stacked.

    A table that is not to be summed here has 0 rows.
    """
    chunk = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.program_id(2) * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)
    in_width = column < width
    total = tl.zeros([BLOCK_ROWS, BLOCK_WIDTH], tl.float32)
    for start in range(0, CHUNK, BLOCK_EVENTS):
        event = chunk * CHUNK + start + tl.arange(0, BLOCK_EVENTS)
        inside = event < events
        first = tl.load(action + event, mask=inside, other=-1)
        second = tl.load(gap + event, mask=inside, other=-1)
        third = tl.load(position + event, mask=inside, other=-1)
        first = tl.where(first < action_rows, first, -1)
        second = tl.where((second >= 0) & (second < gap_rows), second + action_rows, -1)
        third = tl.where((third >= 0) & (third < position_rows), third + action_rows + gap_rows, -1)
        hot = (row[:, None] == first[None, :]) | (row[:, None] == second[None, :])
        hot |= row[:, None] == third[None, :]
        place = gradient + event[:, None] * width + column[None, :]
        values = tl.load(place, mask=inside[:, None] & in_width[None, :], other=0.0)
        if UPCAST:
            values = values.to(tl.float32)
        total = tl.dot(hot.to(values.dtype), values, total, input_precision="ieee")
    rows = action_rows + gap_rows + position_rows
    place = partials + (chunk * rows + row[:, None]) * width + column[None, :]
    tl.store(place, total, mask=(row < rows)[:, None] & in_width[None, :])


def embed(indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
    """As in embed_events_reference."""
    events, width = len(indices[0]), tables[0].shape[1]
    output = tables[0].new_empty(events, width)
    if output.numel():
        arguments = [tensor.contiguous() for tensor in (*indices, *tables)]
        grid = (triton.cdiv(events, SWEEP_EVENTS),)
        _embed[grid](*arguments, output, scale, events, width, SWEEP_EVENTS, _columns(output.dtype))
    return output


def table_gradient(gradient: Tensor, indices: Tensor, rows: int, scale: float) -> Tensor:
    """As in embed_events_reference."""
    ascending, order = torch.sort(indices.int(), stable=True)
    output = gradient.new_zeros(rows, gradient.shape[1])
    _sum_runs(gradient, order, ascending, output, scale)
    return output


def touched_rows_gradient(gradient: Tensor, indices: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """As in embed_events_reference. How many rows are touched is read back: a synchronisation."""
    ascending, order = torch.sort(indices.int(), stable=True)
    touched, rank = torch.unique_consecutive(ascending, return_inverse=True)
    output = gradient.new_empty(len(touched), gradient.shape[1])
    _sum_runs(gradient, order, rank.int(), output, scale)
    return touched.long(), output


def other_gradients(
    gradient: Tensor, indices: tuple[Tensor, ...], rows: list[int], scales: tuple[float, ...]
) -> list[Tensor]:
    """Gradients of the action, gap and position table: the small ones in one pass over `gradient`."""
    (events, width), columns = gradient.shape, _columns(gradient.dtype)
    stacked = [count if count <= SMALL else 0 for count in rows]
    chunks, total = triton.cdiv(events, CHUNK), sum(stacked)
    partials = gradient.new_empty(chunks, total, width, dtype=torch.float32)
    if partials.numel():
        block_rows = _block_rows(gradient.dtype)
        grid = (chunks, triton.cdiv(total, block_rows), triton.cdiv(width, columns))
        _sum_small_tables[grid](
            gradient, *(index.contiguous() for index in indices), partials, events, width, *stacked,
            CHUNK, SWEEP_EVENTS, block_rows, columns, upcast(gradient.dtype),
        )  # fmt: skip
    small = torch.split(partials.sum(0), stacked)
    return [
        (part * scale).to(gradient.dtype) if count <= SMALL else table_gradient(gradient, index, count, scale)
        for part, index, count, scale in zip(small, indices, rows, scales, strict=True)
    ]


def _sum_runs(gradient: Tensor, order: Tensor, rows: Tensor, output: Tensor, scale: float) -> None:
    """Row rows[i] of `output` becomes scale * the sum of gradient[order[i]]; rows int32 [events] ascend."""
    (events, width), columns = gradient.shape, _columns(gradient.dtype)
    if not gradient.numel():
        return
    blocks, lines = triton.cdiv(events, BLOCK_EVENTS), triton.cdiv(width, columns)
    partials = gradient.new_empty(blocks, 2, width, dtype=torch.float32)
    _sum_within_blocks[blocks, lines](
        gradient, order, rows, output, partials, scale, events, width,
        BLOCK_EVENTS, columns, upcast(gradient.dtype),
    )  # fmt: skip
    if blocks > 1:
        _sum_across_blocks[blocks - 1, lines](
            rows, output, partials, scale, events, blocks, width, BLOCK_EVENTS, columns, TURN
        )


def _columns(dtype: torch.dtype) -> int:
    return LINE // dtype.itemsize


def _block_rows(dtype: torch.dtype) -> int:
    return BLOCK_ROWS // 2 if dtype == torch.float32 else BLOCK_ROWS


def variants(arch: int) -> list[Variant]:
    """Every shipped compilation: the same for every chip."""
    return [
        variant
        for dtype, of_torch in DTYPES.items()
        for variant in (
            *_by_event("i32", dtype, _columns(of_torch)),
            *_by_event("i64", dtype, _columns(of_torch)),
            *_by_row(dtype, _columns(of_torch)),
        )
    ]


def _by_event(index: str, dtype: str, columns: int) -> list[Variant]:
    tables = ("item_table", "action_table", "gap_table", "position_table", "output", "gradient")
    counts = ("events", "width", "action_rows", "gap_rows", "position_rows")
    signature = {
        **dict.fromkeys(("item", "action", "gap", "position"), f"*{index}"),
        **dict.fromkeys(tables, f"*{dtype}"),
        **dict.fromkeys(counts, "i32"),
        "partials": "*fp32",
        "scale": "fp32",
    }
    blocks = {"BLOCK_EVENTS": SWEEP_EVENTS, "BLOCK_WIDTH": columns}
    sums = {**blocks, "CHUNK": CHUNK, "BLOCK_ROWS": _block_rows(DTYPES[dtype]), "UPCAST": False}
    return [
        _variant(f"embed_events_{dtype}_{index}", _embed, signature, blocks),
        _variant(f"embed_events_small_tables_{dtype}_{index}", _sum_small_tables, signature, sums),
    ]


def _by_row(dtype: str, columns: int) -> list[Variant]:
    signature = {
        "gradient": f"*{dtype}",
        "order": "*i64",
        "rows": "*i32",
        "output": f"*{dtype}",
        "partials": "*fp32",
        "scale": "fp32",
        **dict.fromkeys(("events", "blocks", "width"), "i32"),
    }
    blocks = {"BLOCK_EVENTS": BLOCK_EVENTS, "BLOCK_WIDTH": columns}
    within, across = {**blocks, "UPCAST": False}, {**blocks, "TURN": TURN}
    return [
        _variant(f"embed_events_within_blocks_{dtype}", _sum_within_blocks, signature, within),
        _variant(f"embed_events_across_blocks_{dtype}", _sum_across_blocks, signature, across),
    ]


def _variant(name: str, kernel: Any, signature: dict[str, str], constants: dict[str, Any]) -> Variant:
    arguments = {key: signature[key] for key in kernel.arg_names if key not in constants}
    aligned = tuple(key for key, kind in arguments.items() if kind.startswith("*") or key == "width")
    return Variant(name, kernel, arguments, constants, aligned, num_warps=4, num_stages=2)
