"""Kernel of the attention's backward pass by queries: query gradients whose bits never vary, at two more products."""

import triton
import triton.language as tl

from footfall_kernels.attention.bias import pair_bias, uniform_bias
from footfall_kernels.attention.gradients import score_gradients
from footfall_kernels.attention.tile_plan_kernels import MIXED, STEPPED
from footfall_kernels.attention.tiles import (
    SOFTMAX,
    class_range,
    load_rows,
    load_times,
    read_block,
    read_counts,
    tile_number,
    visible_pairs,
)


@triton.jit  # type: ignore[untyped-decorator]
def attention_backward_by_query(  # type: ignore[no-untyped-def]
    Query, Key, Value, KeyTiles, ValueTiles, OutputGradient, LogSum, Delta, QueryGradient,
    Blocks, Counts, Tiles, Time, PositionBias, TimeBias,
    query_row, key_row, value_row, output_row, query_head, key_head, value_head, output_head, total_rows, most_tiles,
    scale, inverse_normaliser, window, prefix,
    KIND: tl.constexpr, NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, TABLE: tl.constexpr, D: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, FAST: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
    TMA: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """Query gradients alone, block by block of queries: no atomics, so the same sums in the same order each time.

    Query to ValueTiles: as in attention_forward.
    """
    block, head, heads = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    start, length, history, first = read_block(Blocks, block)
    if length == 0:
        return
    num_uniform, num_whole, num_tiles = read_counts(Counts, block)
    Tiles += block.to(tl.int64) * most_tiles
    PositionBias += head * NUM_POSITION
    TimeBias += head * NUM_TIME
    place = first + tl.arange(0, QUERIES)
    real = place < length
    at_row = head.to(tl.int64) * total_rows + start + place
    query = load_rows(Query, start + first, head * query_head, query_row, total_rows, QUERIES, D, TMA)
    output = load_rows(
        OutputGradient, start + first, head * output_head, output_row, total_rows, QUERIES, D, TMA
    )
    if UPCAST:
        query, output = query.to(tl.float32), output.to(tl.float32)
    log_sum, delta = 0.0, 0.0
    if KIND == SOFTMAX:
        log_sum = tl.load(LogSum + at_row, mask=real, other=0.0)[:, None]
        delta = tl.load(Delta + at_row, mask=real, other=0.0)[:, None]
    query_gradient = tl.zeros([QUERIES, D], tl.float32)

    # As by keys: at D = 64 what is hoisted fits the registers. Later loops keep nothing that can be made again.
    for at in tl.range(0, num_uniform, disable_licm=D != 64):
        entry = tl.load(Tiles + at)
        bias = uniform_bias(entry, PositionBias, TimeBias, NUM_POSITION, NUM_TIME, KIND)
        row = start + tile_number(entry) * KEYS
        key = load_rows(KeyTiles, row, head * key_head, key_row, total_rows, KEYS, D, TMA)
        value = load_rows(ValueTiles, row, head * value_head, value_row, total_rows, KEYS, D, TMA)
        if UPCAST:
            key, value = key.to(tl.float32), value.to(tl.float32)
        product = tl.dot(query, key.T, input_precision=PRECISION)
        output_product = tl.zeros([QUERIES, KEYS], tl.float32) - delta
        output_product = tl.dot(output, value.T, output_product, input_precision=PRECISION)
        _, gradient = score_gradients(
            product, bias, output_product, log_sum, True, scale, KIND, False, False, FAST
        )
        query_gradient = tl.dot(gradient.to(key.dtype), key, query_gradient, input_precision=PRECISION)

    PARTS: tl.constexpr = KEYS // PART
    for CLASS in tl.static_range(STEPPED if NUM_POSITION + NUM_TIME > 0 else MIXED, MIXED + 1):
        start, length, history, first = read_block(Blocks, block)
        num_uniform, num_whole, num_tiles = read_counts(Counts, block)
        end = start + length
        place = first + tl.arange(0, QUERIES)
        low, high = class_range(num_uniform, num_whole, num_tiles, CLASS)
        for at in tl.range(low * PARTS, high * PARTS, disable_licm=True):
            entry = tl.load(Tiles + at // PARTS)
            first_key = tile_number(entry) * KEYS + at % PARTS * PART
            key_place = first_key + tl.arange(0, PART)
            key = load_rows(Key, start + first_key, head * key_head, key_row, end, PART, D, False)
            value = load_rows(Value, start + first_key, head * value_head, value_row, end, PART, D, False)
            if UPCAST:
                key, value = key.to(tl.float32), value.to(tl.float32)
            query_time = load_times(Time, start, place, length, 1, QUERIES, NUM_TIME)
            key_time = load_times(Time, start, key_place, length, 0, PART, NUM_TIME)
            bias = pair_bias(
                entry, place[:, None], key_place[None, :], query_time[:, None], key_time[None, :], history,
                PositionBias, TimeBias, NUM_POSITION, NUM_TIME, TABLE, KIND, CLASS, QUERIES, PART,
            )  # fmt: skip
            visible = visible_pairs(place[:, None], key_place[None, :], history, window, prefix)
            visible = visible & (key_place < length)[None, :]
            product = tl.dot(query, key.T, input_precision=PRECISION)
            output_product = tl.zeros([QUERIES, PART], tl.float32) - delta
            output_product = tl.dot(output, value.T, output_product, input_precision=PRECISION)
            _, gradient = score_gradients(
                product, bias, output_product, log_sum, visible, scale, KIND, CLASS == MIXED, True, FAST
            )
            query_gradient = tl.dot(gradient.to(key.dtype), key, query_gradient, input_precision=PRECISION)

    start, length, history, first = read_block(Blocks, block)
    place = first + tl.arange(0, QUERIES)
    real = place < length
    slot = ((start + place).to(tl.int64) * heads + head)[:, None] * D + tl.arange(0, D)[None, :]
    query_gradient *= scale * inverse_normaliser
    tl.store(QueryGradient + slot, query_gradient.to(QueryGradient.dtype.element_ty), mask=real[:, None])
