"""Attention tiles: what the forward and the backward kernels do alike with one tile of scores."""

import triton
import triton.language as tl

from footfall_kernels.attention.tile_plan_kernels import STEPPED
from footfall_kernels.device_functions import sigmoid, tanh

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
    """Where the uniform, the stepped and the mixed tiles of its list end."""
    num_uniform = tl.load(Counts + 3 * block, volatile=True)
    num_whole = num_uniform + tl.load(Counts + 3 * block + 1, volatile=True)
    return num_uniform, num_whole, num_whole + tl.load(Counts + 3 * block + 2, volatile=True)


@triton.jit  # type: ignore[untyped-decorator]
def class_range(num_uniform, num_whole, num_tiles, CLASS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where the stepped or the mixed tiles of a list lie."""
    if CLASS == STEPPED:
        low, high = num_uniform, num_whole
    else:
        low, high = num_whole, num_tiles
    return low, high


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
    """silu(2 * half): the halving folds into the scale and the tables, which saves one instruction a score."""
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
    return entry >> 18


@triton.jit  # type: ignore[untyped-decorator]
def load_times(  # type: ignore[no-untyped-def]
    Time, start, place, length, LOOKING: tl.constexpr, ROWS: tl.constexpr, NUM_TIME: tl.constexpr
):  # fmt: skip
    """When a sequence's events happened or, LOOKING, when they look back: int32 [ROWS], zero past its end.

    Zeros, never looked at, where there is no table.
    """
    if NUM_TIME > 0:
        time = tl.load(Time + 2 * (start + place) + LOOKING, mask=place < length, other=0)
    else:
        time = tl.zeros([ROWS], tl.int32)
    return time


@triton.jit
def visible_pairs(query, key, history, window, prefix):  # type: ignore[no-untyped-def]
    """AttentionRules for broadcast places `query` and `key`; an event past the end sees at least itself."""
    position = tl.minimum(query, history)
    near = (position - key < window) | (key < prefix)
    return ((key < history) & (key <= position) & near) | (key == query)
