"""Attention tiles: what the forward and the backward kernels do alike with one tile of scores."""

import triton
import triton.language as tl

from footfall_kernels.device_functions import bucket_of, sigmoid, tanh

SOFTMAX, SILU = tl.constexpr(0), tl.constexpr(1)
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def read_block(Blocks, block):  # type: ignore[no-untyped-def]
    """First row, length and history of its sequence, and its own first place.

    Volatile, as read_counts: a kernel reads them anew after a loop, so that nothing made of them is in registers
    during it.
    """
    start = tl.load(Blocks + 4 * block, volatile=True)
    length = tl.load(Blocks + 4 * block + 1, volatile=True)
    history = tl.load(Blocks + 4 * block + 2, volatile=True)
    return start, length, history, tl.load(Blocks + 4 * block + 3, volatile=True)


@triton.jit
def read_counts(Counts, block):  # type: ignore[no-untyped-def]
    """How many of its tiles are uniform, and how many there are."""
    num_uniform = tl.load(Counts + 3 * block, volatile=True)
    num_mixed = tl.load(Counts + 3 * block + 1, volatile=True)
    return num_uniform, num_uniform + num_mixed + tl.load(Counts + 3 * block + 2, volatile=True)


@triton.jit  # type: ignore[untyped-decorator]
def load_rows(Packed, row, column, row_stride, total, ROWS: tl.constexpr, D: tl.constexpr, TMA: tl.constexpr):  # type: ignore[no-untyped-def]
    """[ROWS, D] of one head: by TMA where Packed is a descriptor, else by pointers; zeros past the last row."""
    if TMA:
        rows = Packed.load([row, column])
    else:
        place = row + tl.arange(0, ROWS)
        at = place.to(tl.int64)[:, None] * row_stride + column + tl.arange(0, D)[None, :]
        rows = tl.load(Packed + at, mask=(place < total)[:, None], other=0.0)
    return rows


@triton.jit  # type: ignore[untyped-decorator]
def silu_of_double(half, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """silu(2 * half): the halving folds into the scale and the bias, which saves one instruction a score."""
    if FAST:
        result = half * tanh(half) + half
    else:
        result = 2.0 * half * sigmoid(2.0 * half, FAST)
    return result


@triton.jit
def tile_number(entry):  # type: ignore[no-untyped-def]
    return entry & 0xFFF


@triton.jit
def position_bucket(entry):  # type: ignore[no-untyped-def]
    return (entry >> 12) & 0x3F


@triton.jit
def time_bucket(entry):  # type: ignore[no-untyped-def]
    return (entry >> 18) & 0x3F


@triton.jit  # type: ignore[untyped-decorator]
def uniform_bias(entry, PositionBias, TimeBias, NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr):  # type: ignore[no-untyped-def]
    """The one bias of a uniform tile."""
    bias = 0.0
    if NUM_POSITION > 0:
        bias += tl.load(PositionBias + position_bucket(entry)).to(tl.float32)
    if NUM_TIME > 0:
        bias += tl.load(TimeBias + time_bucket(entry)).to(tl.float32)
    return bias


@triton.jit  # type: ignore[untyped-decorator]
def load_table(Table, NUM: tl.constexpr, PADDED: tl.constexpr):  # type: ignore[no-untyped-def]
    """A head's bias table in registers, so that look-ups are tl.gather and not loads: fp32 [PADDED]."""
    place = tl.arange(0, PADDED)
    return tl.load(Table + place, mask=place < NUM, other=0.0).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def look_up(table, bucket, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.gather(table, bucket.reshape([ROWS * COLUMNS]), 0).reshape([ROWS, COLUMNS])


@triton.jit  # type: ignore[untyped-decorator]
def distance_bucket(query, key, history, NUM: tl.constexpr):  # type: ignore[no-untyped-def]
    """Bucket of the places between broadcast `query` and `key`; candidates stand right behind the history."""
    return bucket_of(tl.minimum(query, history) - key, NUM)


@triton.jit
def visible_pairs(query, key, history, window, prefix):  # type: ignore[no-untyped-def]
    """AttentionRules for broadcast places `query` and `key`; an event past the end sees at least itself."""
    position = tl.minimum(query, history)
    near = (position - key < window) | (key < prefix)
    return ((key < history) & (key <= position) & near) | (key == query)


@triton.jit  # type: ignore[untyped-decorator]
def tile_bias(  # type: ignore[no-untyped-def]
    query_place, key_place, query_time, key_time, history, position_table, time_table,
    NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Bias of every pair of broadcast places and times."""
    bias = tl.zeros([ROWS, COLUMNS], tl.float32)
    if NUM_POSITION > 0:
        bias += look_up(
            position_table, distance_bucket(query_place, key_place, history, NUM_POSITION), ROWS, COLUMNS
        )
    if NUM_TIME > 0:
        bias += look_up(time_table, bucket_of(query_time - key_time, NUM_TIME), ROWS, COLUMNS)
    return bias
