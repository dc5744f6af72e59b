"""Kernel of the attention's backward pass by keys.

A program holds one block of keys, walks the queries that see it and makes the key, value and table gradients; in the
same pass (five matrix products, fp32 atomic additions) or not at all it adds up the query gradients. It has registers
for little else (see docs/kernels.md), so tiles that are not uniform are worked in parts, what
can be read again is, and what the compiler would keep from one turn of a loop to the next is forbidden it.
"""

import triton
import triton.language as tl

from footfall_kernels.attention.bias import beyond, next_bucket, pair_bias, uniform_bias
from footfall_kernels.attention.gradients import score_gradients
from footfall_kernels.attention.tile_plan_kernels import MIXED, STEPPED
from footfall_kernels.attention.tiles import (
    SOFTMAX,
    class_range,
    load_rows,
    position_bucket,
    read_block,
    read_counts,
    tile_number,
    time_bucket,
    visible_pairs,
)
from footfall_kernels.device_functions import bucket_of


@triton.jit  # type: ignore[untyped-decorator]
def _add_by_bucket(Sums, gradient, distance, shortest, longest, NUM: tl.constexpr):  # type: ignore[no-untyped-def]
    """Add a tile's gradients to the sums of their buckets, of which the distances shortest to longest span few.

    Sums: this program's own, so that atomics keep their order. By the limits of each bucket and not by the bucket of
    each pair, which would stay in registers until here: 360 to 680 bytes spilled on sm_90.
    """
    for bucket in tl.range(bucket_of(shortest, NUM), bucket_of(longest, NUM) + 1, disable_licm=True):
        floor = (1 << bucket) >> 1
        ceiling = tl.where(bucket == NUM - 1, 2147483647, 1 << bucket)
        inside = (distance < ceiling) & ((distance >= floor) | (bucket == 0))
        tl.atomic_add(Sums + bucket, tl.sum(tl.sum(tl.where(inside, gradient, 0.0), 1), 0), sem="relaxed")


@triton.jit  # type: ignore[untyped-decorator]
def _add_by_step(Sums, gradient, far, bucket, NUM: tl.constexpr):  # type: ignore[no-untyped-def]
    """The same of a stepped tile: what is `far` belongs to the next bucket."""
    further = tl.sum(tl.sum(tl.where(far, gradient, 0.0), 1), 0)
    tl.atomic_add(Sums + bucket, tl.sum(tl.sum(gradient, 1), 0) - further, sem="relaxed")
    tl.atomic_add(Sums + next_bucket(bucket, NUM), further, sem="relaxed")


@triton.jit  # type: ignore[untyped-decorator]
def _query_step(key, gradient, D: tl.constexpr, PRECISION: tl.constexpr):  # type: ignore[no-untyped-def]
    """gradient^T . key [queries, D], of gradient [KEYS, queries].

    Transposed where wgmma's 64 rows allow, so that both factors come from shared memory and none from registers.
    """
    if D >= 64:
        step = tl.dot(key.T, gradient, input_precision=PRECISION).T
    else:
        step = tl.dot(gradient.T, key, input_precision=PRECISION)
    return step


@triton.jit  # type: ignore[untyped-decorator]
def attention_backward_by_key(  # type: ignore[no-untyped-def]
    Query, Key, Value, OutputGradient, QueryTiles, OutputTiles, LogSum, Delta,
    QueryGradient, QueryGradientTiles, KeyGradient, ValueGradient, TableGradient,
    Blocks, Counts, Tiles, Time, PositionBias, TimeBias,
    query_row, key_row, value_row, output_row, query_head, key_head, value_head, output_head, total_rows, most_tiles,
    scale, inverse_normaliser, window, prefix,
    KIND: tl.constexpr, NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, TABLE: tl.constexpr, D: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, FAST: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
    TMA: tl.constexpr, PART: tl.constexpr, ADD_QUERY: tl.constexpr, REDUCE: tl.constexpr,
):  # fmt: skip
    """Gradients are packed and contiguous, [rows, heads, D]; QueryGradient is fp32.

    QueryTiles, OutputTiles, QueryGradientTiles: the same tensors, with TMA (the last: with REDUCE) as descriptors of
    QUERIES rows; other than uniform tiles are read by pointers, PART queries at once. TableGradient fp32 [blocks,
    heads, 2, TABLE], zero before: each program's sums for the position and the time table, without the normaliser.
    """
    block, head, heads = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    start, length, history, first = read_block(Blocks, block)
    if length == 0:
        return
    num_uniform, num_whole, num_tiles = read_counts(Counts, block)
    Tiles += block.to(tl.int64) * most_tiles
    PositionBias += head * NUM_POSITION
    TimeBias += head * NUM_TIME
    # int32, as more registers spilled; 2^31 rows are 137 GB of queries alone.
    at_row = head * total_rows + start
    PositionSums = TableGradient + (block.to(tl.int64) * heads + head) * 2 * TABLE
    TimeSums = PositionSums + TABLE

    key_place = first + tl.arange(0, KEYS)
    real_key = key_place < length
    column = tl.arange(0, D)
    # Rows past the end are another sequence's: a gradient of 0 would not keep their NaN out. Loaded with a mask, keys
    # stay in shared memory; zeroed by tl.where they sat in wgmma's registers (64 of 255 at D = 128).
    end = start + length
    key = load_rows(Key, start + first, head * key_head, key_row, end, KEYS, D, False)
    value = load_rows(Value, start + first, head * value_head, value_row, end, KEYS, D, False)
    if UPCAST:
        key, value = key.to(tl.float32), value.to(tl.float32)
    key_gradient = tl.zeros([KEYS, D], tl.float32)
    value_gradient = tl.zeros([KEYS, D], tl.float32)

    # At D = 64 what is hoisted fits in the registers and saves an instruction a score.
    for at in tl.range(0, num_uniform, disable_licm=D != 64):
        entry = tl.load(Tiles + at)
        bias = uniform_bias(entry, PositionBias, TimeBias, NUM_POSITION, NUM_TIME, KIND)
        first_query = tile_number(entry) * QUERIES
        place = first_query + tl.arange(0, QUERIES)
        query = load_rows(
            QueryTiles, start + first_query, head * query_head, query_row, total_rows, QUERIES, D, TMA
        )
        output = load_rows(
            OutputTiles, start + first_query, head * output_head, output_row, total_rows, QUERIES, D, TMA
        )
        if UPCAST:
            query, output = query.to(tl.float32), output.to(tl.float32)
        log_sum, delta = 0.0, 0.0
        if KIND == SOFTMAX:
            log_sum = tl.load(LogSum + at_row + place)[None, :]
            delta = tl.load(Delta + at_row + place)[None, :]
        # [KEYS, QUERIES], as everything of a tile here. Begun at -delta, the second needs it no longer.
        product = tl.dot(key, query.T, input_precision=PRECISION)
        output_product = tl.zeros([KEYS, QUERIES], tl.float32) - delta
        output_product = tl.dot(value, output.T, output_product, input_precision=PRECISION)
        weight, gradient = score_gradients(
            product, bias, output_product, log_sum, True, scale, KIND, False, False, FAST
        )
        value_gradient = tl.dot(weight.to(output.dtype), output, value_gradient, input_precision=PRECISION)
        narrow = gradient.to(query.dtype)
        key_gradient = tl.dot(narrow, query, key_gradient, input_precision=PRECISION)
        if NUM_POSITION > 0 or NUM_TIME > 0:
            tile_sum = tl.sum(tl.sum(gradient, 1), 0)
            if NUM_POSITION > 0:
                tl.atomic_add(PositionSums + position_bucket(entry), tile_sum, sem="relaxed")
            if NUM_TIME > 0:
                tl.atomic_add(TimeSums + time_bucket(entry), tile_sum, sem="relaxed")
        if ADD_QUERY:
            step = _query_step(key, narrow, D, PRECISION) * (scale * inverse_normaliser)
            if REDUCE:
                QueryGradientTiles.atomic_add([start + first_query, head * D], step)
            else:
                slot = ((start + place).to(tl.int64) * heads + head)[:, None] * D + column[None, :]
                tl.atomic_add(QueryGradient + slot, step, sem="relaxed")

    PARTS: tl.constexpr = QUERIES // PART
    for CLASS in tl.static_range(STEPPED if NUM_POSITION + NUM_TIME > 0 else MIXED, MIXED + 1):
        start, length, history, first = read_block(Blocks, block)
        num_uniform, num_whole, num_tiles = read_counts(Counts, block)
        end = start + length
        key_place = first + tl.arange(0, KEYS)
        real_key = key_place < length
        low, high = class_range(num_uniform, num_whole, num_tiles, CLASS)
        for at in tl.range(low * PARTS, high * PARTS, disable_licm=True):
            entry = tl.load(Tiles + at // PARTS)
            first_query = tile_number(entry) * QUERIES + at % PARTS * PART
            place = first_query + tl.arange(0, PART)
            real = place < length
            query = load_rows(Query, start + first_query, head * query_head, query_row, end, PART, D, False)
            output = load_rows(
                OutputGradient, start + first_query, head * output_head, output_row, end, PART, D, False
            )
            if UPCAST:
                query, output = query.to(tl.float32), output.to(tl.float32)
            log_sum, delta = 0.0, 0.0
            if KIND == SOFTMAX:
                log_sum = tl.load(LogSum + at_row + place, mask=real, other=0.0)[None, :]
                delta = tl.load(Delta + at_row + place, mask=real, other=0.0)[None, :]
            query_time = tl.zeros([PART], tl.int32)
            key_time = tl.zeros([KEYS], tl.int32)
            if NUM_TIME > 0:
                a_key, a_query = start + first, start + tl.minimum(first_query, length - 1)
                key_time = tl.load(
                    Time + 2 * (start + key_place), mask=real_key, other=tl.load(Time + 2 * a_key)
                )
                query_time = tl.load(
                    Time + 2 * (start + place) + 1, mask=real, other=tl.load(Time + 2 * a_query + 1)
                )
            bias = pair_bias(
                entry, place[None, :], key_place[:, None], query_time[None, :], key_time[:, None], history,
                PositionBias, TimeBias, NUM_POSITION, NUM_TIME, TABLE, KIND, CLASS, KEYS, PART,
            )  # fmt: skip
            visible = visible_pairs(place[None, :], key_place[:, None], history, window, prefix)
            visible = visible & real[None, :] & real_key[:, None]
            product = tl.dot(key, query.T, input_precision=PRECISION)
            output_product = tl.zeros([KEYS, PART], tl.float32) - delta
            output_product = tl.dot(value, output.T, output_product, input_precision=PRECISION)
            weight, gradient = score_gradients(
                product, bias, output_product, log_sum, visible, scale, KIND, CLASS == MIXED, False, FAST
            )
            value_gradient = tl.dot(
                weight.to(output.dtype), output, value_gradient, input_precision=PRECISION
            )
            narrow = gradient.to(query.dtype)
            key_gradient = tl.dot(narrow, query, key_gradient, input_precision=PRECISION)
            position = tl.minimum(place, history)
            if CLASS == STEPPED:
                if NUM_POSITION > 0:
                    far = beyond(position_bucket(entry), position[None, :], key_place[:, None])
                    _add_by_step(PositionSums, gradient, far, position_bucket(entry), NUM_POSITION)
                if NUM_TIME > 0:
                    far = beyond(time_bucket(entry), query_time[None, :], key_time[:, None])
                    _add_by_step(TimeSums, gradient, far, time_bucket(entry), NUM_TIME)
            else:
                if NUM_POSITION > 0:
                    distance = position[None, :] - key_place[:, None]
                    shortest, longest = tl.min(position, 0) - first - KEYS + 1, tl.max(position, 0) - first
                    _add_by_bucket(PositionSums, gradient, distance, shortest, longest, NUM_POSITION)
                if NUM_TIME > 0:
                    distance = query_time[None, :] - key_time[:, None]
                    shortest = tl.min(query_time, 0) - tl.max(key_time, 0)
                    longest = tl.max(query_time, 0) - tl.min(key_time, 0)
                    _add_by_bucket(TimeSums, gradient, distance, shortest, longest, NUM_TIME)
            if ADD_QUERY:
                step = _query_step(key, narrow, D, PRECISION) * (scale * inverse_normaliser)
                slot = ((start + place).to(tl.int64) * heads + head)[:, None] * D + column[None, :]
                tl.atomic_add(QueryGradient + slot, step, sem="relaxed", mask=real[:, None])

    start, length, history, first = read_block(Blocks, block)
    key_place = first + tl.arange(0, KEYS)
    real_key = key_place < length
    slot = ((start + key_place).to(tl.int64) * heads + head)[:, None] * D + tl.arange(0, D)[None, :]
    key_gradient *= scale * inverse_normaliser
    value_gradient *= inverse_normaliser
    tl.store(KeyGradient + slot, key_gradient.to(KeyGradient.dtype.element_ty), mask=real_key[:, None])
    tl.store(ValueGradient + slot, value_gradient.to(ValueGradient.dtype.element_ty), mask=real_key[:, None])
