"""TilePlan: which tiles of the score matrix a batch's kernels visit; decided once, for all layers, heads and passes.

A tile is a block of queries by a block of keys, of one of three classes, so that masks and bucket look-ups leave the
inner loop: uniform (every pair visible, one position bucket, one time bucket: the bias is one number), stepped (every
pair visible, of each table two neighbouring buckets at most: one comparison tells which) and mixed (the diagonal, a
window's edge, a sequence's end, distances of many buckets: all is asked pair by pair). It is what BlockMask is to
FlexAttention (arXiv 2412.05496), over packed sequences and with the bias in it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from footfall_kernels.attention.rules import AttentionRules

TILE_BITS = 12
POSITION_BITS = 6
TIME_BITS = 6
MAX_BUCKETS = 1 << TIME_BITS


@dataclass(frozen=True)
class TileShape:
    """Queries and keys of one tile."""

    queries: int
    keys: int


@dataclass(frozen=True)
class TileLists:
    """The tiles of every block of rows: int32, most tiles first, so that the longest work starts first.

    blocks [blocks, 4]: first packed row of the sequence, its events, its history's events, the block's first row
    (0 events: no block). counts [blocks, 3]: uniform, stepped and mixed tiles. tiles [blocks, most]: those in this
    order, each its number and its lowest position and time bucket, in TILE_BITS, POSITION_BITS and TIME_BITS from the
    lowest.
    """

    blocks: Tensor
    counts: Tensor
    tiles: Tensor


@dataclass(frozen=True)
class TilePlan:
    """`by_query` lists the key tiles of a block of queries (forward), `by_key` the query tiles of a block of keys."""

    by_query: TileLists
    by_key: TileLists


def list_tiles(
    offsets: Tensor,
    max_length: int,
    rules: AttentionRules,
    shape: TileShape,
    *,
    by_key: bool,
    num_candidates: Tensor | None,
    time: Tensor | None,
    num_position_buckets: int,
    num_time_buckets: int,
    total: int,
) -> TileLists:
    """One direction of a plan, on the device of `offsets` and without a synchronisation.

    max_length bounds every sequence's events; a bucket count of 0: there is no such table.
    """
    from footfall_kernels.attention.tile_plan_kernels import classify_tiles, measure_times

    rows, columns = (shape.keys, shape.queries) if by_key else (shape.queries, shape.keys)
    lengths = offsets.diff().to(torch.int32)
    history = lengths if num_candidates is None else lengths - num_candidates.to(torch.int32)
    row_blocks = -(-lengths // rows)
    block_end = row_blocks.cumsum(0, dtype=torch.int32)
    most_blocks = total // rows + len(lengths)  # at least the sum of the rounded-up quotients
    number = torch.arange(most_blocks, dtype=torch.int32, device=offsets.device)
    sequence = torch.searchsorted(block_end, number, right=True).clamp_max(len(lengths) - 1)
    first_row = (number - (block_end - row_blocks)[sequence]) * rows
    length = torch.where(number < block_end[-1], lengths[sequence], 0)
    blocks = torch.stack(
        [offsets[:-1][sequence].to(torch.int32), length, history[sequence], first_row], dim=1
    )

    tile_blocks = -(-lengths // columns)
    first_tile = tile_blocks.cumsum(0, dtype=torch.int32) - tile_blocks
    most_tiles = max(-(-max_length // columns), 1)
    num_tiles = total // columns + len(lengths)
    extent = measure_times(offsets, time, first_tile, columns, num_tiles, max_length, by_key=by_key)
    counts, tiles = classify_tiles(
        blocks.contiguous(),
        first_tile[sequence].contiguous(),
        time,
        extent,
        rules,
        rows,
        columns,
        most_tiles,
        by_key=by_key,
        num_position_buckets=num_position_buckets,
        num_time_buckets=num_time_buckets,
    )
    order = torch.argsort(counts.sum(dim=1), descending=True, stable=True)
    return TileLists(blocks[order].contiguous(), counts[order].contiguous(), tiles[order].contiguous())
