"""Kernel of the attention's forward pass: one block of queries of one head a program, three loops over its tiles."""

import triton
import triton.language as tl

from footfall_kernels.attention_tiles import (
    LOG2E,
    SILU,
    SOFTMAX,
    load_rows,
    load_table,
    read_block,
    silu_of_double,
    tile_bias,
    tile_number,
    uniform_bias,
    visible_pairs,
)
from footfall_kernels.tile_plan_triton import MASKED, MIXED, UNIFORM


@triton.jit  # type: ignore[untyped-decorator]
def _accumulate(  # type: ignore[no-untyped-def]
    accumulator, highest, total, product, bias, value, visible, scale,
    KIND: tl.constexpr, CLASS: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add one tile, products query . key [QUERIES, KEYS], to the running result.

    softmax (base 2; Milakov and Gimelshein, arXiv 1805.02867): `highest` and `total` are each row's running maximum
    and sum. silu keeps neither.
    """
    if KIND == SILU:
        weight = silu_of_double(product * (0.5 * scale) + 0.5 * bias, FAST)
        if CLASS == MASKED:
            weight = tl.where(visible, weight, 0.0)
    elif CLASS == UNIFORM:
        # The bias of the tile is one number, so it moves into what is subtracted: one FMA a score.
        rise = tl.maximum(highest, tl.max(product, 1) * (scale * LOG2E) + bias * LOG2E)
        weight = tl.exp2(product * (scale * LOG2E) - (rise - bias * LOG2E)[:, None])
    else:
        score = product * (scale * LOG2E) + bias * LOG2E
        if CLASS == MASKED:
            score = tl.where(visible, score, float("-inf"))
        rise = tl.maximum(highest, tl.max(score, 1))
        if CLASS == MASKED:
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
    Query, Key, Value, Output, LogSum, Blocks, Counts, Tiles, Time, PositionBias, TimeBias,
    query_row, key_row, value_row, query_head, key_head, value_head, output_row, total_rows, most_tiles,
    scale, inverse_normaliser, window, prefix,
    KIND: tl.constexpr, NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, TABLE: tl.constexpr, D: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, FAST: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
    TMA: tl.constexpr,
):  # fmt: skip
    """Query, Key, Value: packed rows of stride *_row, or descriptors of them; heads lie *_head elements apart."""
    block, head = tl.program_id(0), tl.program_id(1)
    start, length, history, first = read_block(Blocks, block)
    if length == 0:
        return
    num_uniform = tl.load(Counts + 3 * block)
    num_whole = num_uniform + tl.load(Counts + 3 * block + 1)
    num_tiles = num_whole + tl.load(Counts + 3 * block + 2)
    Tiles += block.to(tl.int64) * most_tiles
    PositionBias += head * NUM_POSITION
    TimeBias += head * NUM_TIME

    place = first + tl.arange(0, QUERIES)
    query = load_rows(Query, start + first, head * query_head, query_row, total_rows, QUERIES, D, TMA)
    if UPCAST:
        query = query.to(tl.float32)
    query_time = tl.zeros([QUERIES], tl.int32)
    position_table = tl.zeros([TABLE], tl.float32)
    time_table = tl.zeros([TABLE], tl.float32)
    if NUM_TIME > 0:
        query_time = tl.load(Time + start + place, mask=place < length, other=0)
        time_table = load_table(TimeBias, NUM_TIME, TABLE)
    if NUM_POSITION > 0:
        position_table = load_table(PositionBias, NUM_POSITION, TABLE)
    accumulator = tl.zeros([QUERIES, D], tl.float32)
    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)

    # What the compiler would hoist spills on sm_80; elsewhere it fits and saves instructions.
    for at in tl.range(0, num_uniform, disable_licm=not TMA):
        entry = tl.load(Tiles + at)
        bias = uniform_bias(entry, PositionBias, TimeBias, NUM_POSITION, NUM_TIME)
        row = start + tile_number(entry) * KEYS
        key = load_rows(Key, row, head * key_head, key_row, total_rows, KEYS, D, TMA)
        value = load_rows(Value, row, head * value_head, value_row, total_rows, KEYS, D, TMA)
        if UPCAST:
            key, value = key.to(tl.float32), value.to(tl.float32)
        product = tl.dot(query, key.T, input_precision=PRECISION)
        accumulator, highest, total = _accumulate(
            accumulator, highest, total, product, bias, value, True, scale, KIND, UNIFORM, FAST, PRECISION
        )

    for at in tl.range(num_uniform, num_whole, disable_licm=not TMA):
        first_key = tile_number(tl.load(Tiles + at)) * KEYS
        key_place = first_key + tl.arange(0, KEYS)
        key = load_rows(Key, start + first_key, head * key_head, key_row, total_rows, KEYS, D, TMA)
        value = load_rows(Value, start + first_key, head * value_head, value_row, total_rows, KEYS, D, TMA)
        if UPCAST:
            key, value = key.to(tl.float32), value.to(tl.float32)
        product = tl.dot(query, key.T, input_precision=PRECISION)
        key_time = tl.zeros([KEYS], tl.int32)
        if NUM_TIME > 0:
            key_time = tl.load(Time + start + key_place)
        bias = tile_bias(
            place[:, None], key_place[None, :], query_time[:, None], key_time[None, :], history,
            position_table, time_table, NUM_POSITION, NUM_TIME, QUERIES, KEYS,
        )  # fmt: skip
        accumulator, highest, total = _accumulate(
            accumulator, highest, total, product, bias, value, True, scale, KIND, MIXED, FAST, PRECISION
        )

    for at in tl.range(num_whole, num_tiles, disable_licm=not TMA):
        first_key = tile_number(tl.load(Tiles + at)) * KEYS
        key_place = first_key + tl.arange(0, KEYS)
        key = load_rows(Key, start + first_key, head * key_head, key_row, total_rows, KEYS, D, TMA)
        value = load_rows(Value, start + first_key, head * value_head, value_row, total_rows, KEYS, D, TMA)
        # Rows past the end are another sequence's: a weight of 0 would not keep its NaN out.
        value = tl.where((key_place < length)[:, None], value, 0.0).to(value.dtype)
        if UPCAST:
            key, value = key.to(tl.float32), value.to(tl.float32)
        product = tl.dot(query, key.T, input_precision=PRECISION)
        key_time = tl.zeros([KEYS], tl.int32)
        if NUM_TIME > 0:
            key_time = tl.load(Time + start + key_place, mask=key_place < length, other=0)
        bias = tile_bias(
            place[:, None], key_place[None, :], query_time[:, None], key_time[None, :], history,
            position_table, time_table, NUM_POSITION, NUM_TIME, QUERIES, KEYS,
        )  # fmt: skip
        visible = visible_pairs(place[:, None], key_place[None, :], history, window, prefix)
        accumulator, highest, total = _accumulate(
            accumulator, highest, total, product, bias, value, visible, scale, KIND, MASKED, FAST, PRECISION
        )

    real = place < length
    if KIND == SOFTMAX:
        accumulator = accumulator / total[:, None]
        tl.store(LogSum + head.to(tl.int64) * total_rows + start + place, highest + tl.log2(total), mask=real)
    else:
        accumulator = accumulator * inverse_normaliser
    at_output = (start + place).to(tl.int64)[:, None] * output_row + head * D + tl.arange(0, D)[None, :]
    tl.store(Output + at_output, accumulator.to(Output.dtype.element_ty), mask=real[:, None])
