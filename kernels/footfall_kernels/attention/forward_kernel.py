"""Kernel of the attention's forward pass: one block of queries of one head a program, three loops over its tiles."""

import triton
import triton.language as tl

from footfall_kernels.attention.bias import pair_bias, uniform_bias
from footfall_kernels.attention.tile_plan_kernels import MIXED, STEPPED, UNIFORM
from footfall_kernels.attention.tiles import (
    LOG2E,
    SILU,
    SOFTMAX,
    class_range,
    load_rows,
    load_times,
    read_block,
    read_counts,
    silu_of_double,
    tile_number,
    visible_pairs,
)


@triton.jit  # type: ignore[untyped-decorator]
def _accumulate(  # type: ignore[no-untyped-def]
    accumulator, highest, total, product, bias, value, visible, scale,
    KIND: tl.constexpr, CLASS: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add one tile, products query . key [QUERIES, KEYS] and its bias in `bias_unit`, to the running result.

    softmax (base 2; Milakov and Gimelshein, arXiv 1805.02867): `highest` and `total` are each row's running maximum
    and sum. silu keeps neither.
    """
    if KIND == SILU:
        weight = silu_of_double(product * (0.5 * scale) + bias, FAST)
        if CLASS == MIXED:
            weight = tl.where(visible, weight, 0.0)
    elif CLASS == UNIFORM:
        # The bias of the tile is one number, so it moves into what is subtracted: one FMA a score.
        rise = tl.maximum(highest, tl.max(product, 1) * (scale * LOG2E) + bias)
        weight = tl.exp2(product * (scale * LOG2E) - (rise - bias)[:, None])
    else:
        score = product * (scale * LOG2E) + bias
        if CLASS == MIXED:
            score = tl.where(visible, score, float("-inf"))
        rise = tl.maximum(highest, tl.max(score, 1))
        if CLASS == MIXED:
            rise = tl.where(rise == float("-inf"), 0.0, rise)  # nothing seen yet, and nothing in this tile
        weight = tl.exp2(score - rise[:, None])
    if KIND == SOFTMAX:
        shrink = tl.exp2(highest - rise)
        total = total * shrink + tl.sum(weight, 1)
        accumulator = accumulator * shrink[:, None]
        highest = rise
    accumulator = tl.dot(weight.to(value.dtype), value, accumulator, input_precision=PRECISION)
    return accumulator, highest, total


@triton.jit  # type: ignore[untyped-decorator]
def attention_forward(  # type: ignore[no-untyped-def]
    Query, Key, Value, KeyTiles, ValueTiles, Output, LogSum, Blocks, Counts, Tiles, Time, PositionBias, TimeBias,
    query_row, key_row, value_row, query_head, key_head, value_head, output_row, total_rows, most_tiles,
    scale, inverse_normaliser, window, prefix,
    KIND: tl.constexpr, NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, TABLE: tl.constexpr, D: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, FAST: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
    TMA: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """Query, Key, Value: packed rows of stride *_row; heads lie *_head elements apart.

    KeyTiles, ValueTiles: the same keys and values. With TMA these and Query are descriptors of KEYS and QUERIES rows;
    tiles that are not uniform are read by pointers, PART keys at once.
    """
    block, head = tl.program_id(0), tl.program_id(1)
    start, length, history, first = read_block(Blocks, block)
    if length == 0:
        return
    num_uniform, num_whole, num_tiles = read_counts(Counts, block)
    Tiles += block.to(tl.int64) * most_tiles
    PositionBias += head * NUM_POSITION
    TimeBias += head * NUM_TIME

    place = first + tl.arange(0, QUERIES)
    query = load_rows(Query, start + first, head * query_head, query_row, total_rows, QUERIES, D, TMA)
    if UPCAST:
        query = query.to(tl.float32)
    accumulator = tl.zeros([QUERIES, D], tl.float32)
    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)

    for at in tl.range(0, num_uniform):
        entry = tl.load(Tiles + at)
        bias = uniform_bias(entry, PositionBias, TimeBias, NUM_POSITION, NUM_TIME, KIND)
        row = start + tile_number(entry) * KEYS
        key = load_rows(KeyTiles, row, head * key_head, key_row, total_rows, KEYS, D, TMA)
        value = load_rows(ValueTiles, row, head * value_head, value_row, total_rows, KEYS, D, TMA)
        if UPCAST:
            key, value = key.to(tl.float32), value.to(tl.float32)
        product = tl.dot(query, key.T, input_precision=PRECISION)
        accumulator, highest, total = _accumulate(
            accumulator, highest, total, product, bias, value, True, scale, KIND, UNIFORM, FAST, PRECISION
        )

    # By parts, so that registers allow two programs a multiprocessor. Rows past the end are another sequence's: a
    # weight of 0 would not keep their NaN out.
    PARTS: tl.constexpr = KEYS // PART
    end = start + length
    for CLASS in tl.static_range(STEPPED if NUM_POSITION + NUM_TIME > 0 else MIXED, MIXED + 1):
        low, high = class_range(num_uniform, num_whole, num_tiles, CLASS)
        for at in tl.range(low * PARTS, high * PARTS, disable_licm=True):
            entry = tl.load(Tiles + at // PARTS)
            first_key = tile_number(entry) * KEYS + at % PARTS * PART
            key_place = first_key + tl.arange(0, PART)
            key = load_rows(Key, start + first_key, head * key_head, key_row, end, PART, D, False)
            value = load_rows(Value, start + first_key, head * value_head, value_row, end, PART, D, False)
            if UPCAST:
                key, value = key.to(tl.float32), value.to(tl.float32)
            product = tl.dot(query, key.T, input_precision=PRECISION)
            query_time = load_times(Time, start, place, length, 1, QUERIES, NUM_TIME)
            key_time = load_times(Time, start, key_place, length, 0, PART, NUM_TIME)
            bias = pair_bias(
                entry, place[:, None], key_place[None, :], query_time[:, None], key_time[None, :], history,
                PositionBias, TimeBias, NUM_POSITION, NUM_TIME, TABLE, KIND, CLASS, QUERIES, PART,
            )  # fmt: skip
            visible = visible_pairs(place[:, None], key_place[None, :], history, window, prefix)
            accumulator, highest, total = _accumulate(
                accumulator, highest, total, product, bias, value, visible, scale,
                KIND, CLASS, FAST, PRECISION,
            )  # fmt: skip

    real = place < length
    if KIND == SOFTMAX:
        accumulator = accumulator / total[:, None]
        tl.store(LogSum + head.to(tl.int64) * total_rows + start + place, highest + tl.log2(total), mask=real)
    else:
        accumulator = accumulator * inverse_normaliser
    at_output = (start + place).to(tl.int64)[:, None] * output_row + head * D + tl.arange(0, D)[None, :]
    tl.store(Output + at_output, accumulator.to(Output.dtype.element_ty), mask=real[:, None])
