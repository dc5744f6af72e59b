"""Kernels that class the tiles of a batch; see tile_plan."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from footfall_kernels.attention.rules import AttentionRules
from footfall_kernels.device_functions import bucket_of

UNIFORM, STEPPED, MIXED = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
TILES_AT_ONCE = 128
LARGEST = tl.constexpr(2**31 - 1)


@triton.jit  # type: ignore[untyped-decorator]
def _measure(  # type: ignore[no-untyped-def]
    Offsets, Time, FirstTile, Extent, LOOKING: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """Earliest and latest time of each tile's events, see load_times: Extent int32 [tiles, 2]."""
    sequence, tile = tl.program_id(0), tl.program_id(1)
    start = tl.load(Offsets + sequence).to(tl.int32)
    length = tl.load(Offsets + sequence + 1).to(tl.int32) - start
    if tile * COLUMNS < length:
        place = tile * COLUMNS + tl.arange(0, COLUMNS)
        real = place < length
        time = tl.load(Time + 2 * (start + place) + LOOKING, mask=real, other=0)
        slot = Extent + 2 * (tl.load(FirstTile + sequence) + tile)
        tl.store(slot, tl.min(tl.where(real, time, LARGEST), 0))
        tl.store(slot + 1, tl.max(tl.where(real, time, -LARGEST), 0))


@triton.jit  # type: ignore[untyped-decorator]
def _classes(  # type: ignore[no-untyped-def]
    tile, first_row, last_row, length, history, row_earliest, row_latest, Extent, first_tile, window, prefix,
    COLUMNS: tl.constexpr, BY_KEY: tl.constexpr, NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Class, position bucket and time bucket of the tiles numbered `tile`, int32 [TILES] each."""
    first_column = tile * COLUMNS
    last_column = tl.minimum(first_column + COLUMNS, length) - 1
    exists = first_column < length
    if BY_KEY:
        first_query, last_query, first_key, last_key = first_column, last_column, first_row, last_row
        full = (first_column + COLUMNS <= length) & (first_row + ROWS <= history)
    else:
        first_query, last_query, first_key, last_key = first_row, last_row, first_column, last_column
        full = first_column + COLUMNS <= history  # queries past the end are never stored
    # Candidates stand right behind the history.
    first_position, last_position = tl.minimum(first_query, history), tl.minimum(last_query, history)
    last_seen = tl.minimum(last_key, history - 1)
    touches = (first_key <= last_seen) & (first_key <= last_position)
    touches = touches & ((first_position - last_seen < window) | (first_key < prefix))
    meets_itself = (first_query <= last_key) & (first_key <= last_query)
    whole = full & (last_key <= first_position) & ~meets_itself
    whole = whole & ((last_position - first_key < window) | (last_key < prefix))
    uniform, stepped = whole, whole
    position = tl.zeros_like(tile)
    time = tl.zeros_like(tile)
    if NUM_POSITION > 0:
        position = bucket_of(first_position - last_key, NUM_POSITION)
        furthest = bucket_of(last_position - first_key, NUM_POSITION)
        uniform, stepped = uniform & (furthest == position), stepped & (furthest <= position + 1)
    if NUM_TIME > 0:
        earliest = tl.load(Extent + 2 * (first_tile + tile), mask=exists, other=0)
        latest = tl.load(Extent + 2 * (first_tile + tile) + 1, mask=exists, other=0)
        if BY_KEY:
            shortest, longest = earliest - row_latest, latest - row_earliest
        else:
            shortest, longest = row_earliest - latest, row_latest - earliest
        time = bucket_of(shortest, NUM_TIME)
        furthest = bucket_of(longest, NUM_TIME)
        uniform, stepped = uniform & (furthest == time), stepped & (furthest <= time + 1)
    kind = tl.where(uniform, UNIFORM, tl.where(stepped, STEPPED, tl.where(touches | meets_itself, MIXED, 0)))
    return tl.where(exists, kind, 0), position, time


@triton.jit  # type: ignore[untyped-decorator]
def _classify(  # type: ignore[no-untyped-def]
    Blocks, FirstTile, Time, Extent, Counts, Tiles, window, prefix, most_tiles,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BY_KEY: tl.constexpr, NUM_POSITION: tl.constexpr,
    NUM_TIME: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """One block of rows a program: count the tiles of each class, then write them class by class."""
    block = tl.program_id(0)
    start, length = tl.load(Blocks + 4 * block), tl.load(Blocks + 4 * block + 1)
    history, first_row = tl.load(Blocks + 4 * block + 2), tl.load(Blocks + 4 * block + 3)
    first_tile = tl.load(FirstTile + block)
    last_row = tl.minimum(first_row + ROWS, length) - 1
    earliest, latest = 0, 0
    if NUM_TIME > 0:
        place = first_row + tl.arange(0, ROWS)
        real = place < length
        time = tl.load(Time + 2 * (start + place) + (not BY_KEY), mask=real, other=0)
        earliest = tl.min(tl.where(real, time, LARGEST), 0)
        latest = tl.max(tl.where(real, time, -LARGEST), 0)
    uniform, stepped, mixed = 0, 0, 0
    for first in tl.range(0, tl.cdiv(length, COLUMNS), TILES):
        kind, _, _ = _classes(
            first + tl.arange(0, TILES), first_row, last_row, length, history, earliest, latest, Extent,
            first_tile, window, prefix, COLUMNS, BY_KEY, NUM_POSITION, NUM_TIME, ROWS,
        )  # fmt: skip
        uniform += tl.sum((kind == UNIFORM).to(tl.int32), 0)
        stepped += tl.sum((kind == STEPPED).to(tl.int32), 0)
        mixed += tl.sum((kind == MIXED).to(tl.int32), 0)
    tl.store(Counts + 3 * block, uniform)
    tl.store(Counts + 3 * block + 1, stepped)
    tl.store(Counts + 3 * block + 2, mixed)
    at_uniform, at_stepped, at_mixed = 0, uniform, uniform + stepped
    for first in tl.range(0, tl.cdiv(length, COLUMNS), TILES):
        tile = first + tl.arange(0, TILES)
        kind, position, time = _classes(
            tile, first_row, last_row, length, history, earliest, latest, Extent,
            first_tile, window, prefix, COLUMNS, BY_KEY, NUM_POSITION, NUM_TIME, ROWS,
        )  # fmt: skip
        entry = tile | (position << 12) | (time << 18)
        is_uniform, is_stepped, is_mixed = (
            (kind == UNIFORM).to(tl.int32),
            (kind == STEPPED).to(tl.int32),
            (kind == MIXED).to(tl.int32),
        )
        slot = tl.where(
            kind == UNIFORM,
            at_uniform + tl.cumsum(is_uniform, 0),
            tl.where(
                kind == STEPPED, at_stepped + tl.cumsum(is_stepped, 0), at_mixed + tl.cumsum(is_mixed, 0)
            ),
        )
        tl.store(Tiles + block.to(tl.int64) * most_tiles + slot - 1, entry, mask=kind > 0)
        at_uniform += tl.sum(is_uniform, 0)
        at_stepped += tl.sum(is_stepped, 0)
        at_mixed += tl.sum(is_mixed, 0)


def measure_times(
    offsets: Tensor,
    time: Tensor | None,
    first_tile: Tensor,
    columns: int,
    most_tiles: int,
    max_length: int,
    *,
    by_key: bool,
) -> Tensor:
    """int32 [tiles, 2], or nothing where there are no times."""
    extent = torch.zeros(most_tiles if time is not None else 0, 2, dtype=torch.int32, device=offsets.device)
    if time is not None:
        grid = (len(offsets) - 1, -(-max_length // columns))
        _measure[grid](offsets, time, first_tile, extent, LOOKING=by_key, COLUMNS=columns)
    return extent


def classify_tiles(
    blocks: Tensor,
    first_tile: Tensor,
    time: Tensor | None,
    extent: Tensor,
    rules: AttentionRules,
    rows: int,
    columns: int,
    most_tiles: int,
    *,
    by_key: bool,
    num_position_buckets: int,
    num_time_buckets: int,
) -> tuple[Tensor, Tensor]:
    """counts int32 [blocks, 3] and tiles int32 [blocks, most_tiles] of TileLists, in the order of `blocks`."""
    counts = torch.empty(len(blocks), 3, dtype=torch.int32, device=blocks.device)
    tiles = torch.zeros(len(blocks), most_tiles, dtype=torch.int32, device=blocks.device)
    _classify[(len(blocks),)](
        blocks, first_tile, time if time is not None else extent, extent, counts, tiles,
        rules.window, rules.prefix, most_tiles,
        ROWS=rows, COLUMNS=columns, BY_KEY=by_key, NUM_POSITION=num_position_buckets, NUM_TIME=num_time_buckets,
        TILES=TILES_AT_ONCE,
    )  # fmt: skip
    return counts, tiles
