"""Kernel of the attention's backward pass by keys.

A program holds one block of keys, walks the queries that see it and makes the key, value and table gradients; in the
same pass (five matrix products, fp32 atomic additions) or not at all it adds up the query gradients.
"""

import triton
import triton.language as tl

from footfall_kernels.attention_gradients import score_gradients
from footfall_kernels.attention_tiles import (
    SOFTMAX,
    load_rows,
    load_table,
    position_bucket,
    tile_bias,
    tile_number,
    time_bucket,
    uniform_bias,
    visible_pairs,
)
from footfall_kernels.device_functions import bucket_of


@triton.jit  # type: ignore[untyped-decorator]
def _add_by_bucket(  # type: ignore[no-untyped-def]
    sums, gradient, distance, shortest, longest, NUM: tl.constexpr, TABLE: tl.constexpr
):
    """Add a tile's gradients to the sums of their buckets, of which the distances shortest to longest span few.

    By the limits of each bucket and not by the bucket of each pair, which would stay in registers until here: 360 to
    680 bytes spilled on sm_90.
    """
    place = tl.arange(0, TABLE)
    for bucket in range(bucket_of(shortest, NUM), bucket_of(longest, NUM) + 1):
        floor = (1 << bucket) >> 1
        ceiling = tl.where(bucket == NUM - 1, 2147483647, 1 << bucket)
        inside = (distance < ceiling) & ((distance >= floor) | (bucket == 0))
        sums += tl.where(place == bucket, tl.sum(tl.sum(tl.where(inside, gradient, 0.0), 1), 0), 0.0)
    return sums


@triton.jit  # type: ignore[untyped-decorator]
def attention_backward_by_key(  # type: ignore[no-untyped-def]
    Query, Key, Value, OutputGradient, LogSum, Delta, QueryGradient, KeyGradient, ValueGradient, TableGradient,
    Blocks, Counts, Tiles, Time, PositionBias, TimeBias,
    query_row, key_row, value_row, output_row, query_head, key_head, value_head, output_head, total_rows, most_tiles,
    scale, inverse_normaliser, window, prefix,
    KIND: tl.constexpr, NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, TABLE: tl.constexpr, D: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, FAST: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
    TMA: tl.constexpr, ADD_QUERY: tl.constexpr, REDUCE: tl.constexpr,
):  # fmt: skip
    """Gradients are packed and contiguous, [rows, heads, D]; QueryGradient is fp32 (a descriptor with REDUCE).

    TableGradient fp32 [blocks, heads, 2, TABLE]: this program's sums for the position and the time table.
    """
    block, head, heads = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    length = tl.load(Blocks + 4 * block + 1)
    if length == 0:
        return
    start, history = tl.load(Blocks + 4 * block), tl.load(Blocks + 4 * block + 2)
    first = tl.load(Blocks + 4 * block + 3)
    num_uniform, num_mixed = tl.load(Counts + 3 * block), tl.load(Counts + 3 * block + 1)
    num_whole = num_uniform + num_mixed
    num_tiles = num_whole + tl.load(Counts + 3 * block + 2)
    Tiles += block.to(tl.int64) * most_tiles
    PositionBias += head * NUM_POSITION
    TimeBias += head * NUM_TIME
    LogSum += head.to(tl.int64) * total_rows + start
    Delta += head.to(tl.int64) * total_rows + start

    key_place = first + tl.arange(0, KEYS)
    real_key = key_place < length
    column = tl.arange(0, D)
    key = load_rows(Key, start + first, head * key_head, key_row, total_rows, KEYS, D, TMA)
    value = load_rows(Value, start + first, head * value_head, value_row, total_rows, KEYS, D, TMA)
    # Rows past the end are another sequence's: a gradient of 0 would not keep their NaN out.
    key = tl.where(real_key[:, None], key, 0.0).to(key.dtype)
    value = tl.where(real_key[:, None], value, 0.0).to(value.dtype)
    if UPCAST:
        key, value = key.to(tl.float32), value.to(tl.float32)
    key_gradient = tl.zeros([KEYS, D], tl.float32)
    value_gradient = tl.zeros([KEYS, D], tl.float32)
    key_time = tl.zeros([KEYS], tl.int32)
    position_table = tl.zeros([TABLE], tl.float32)
    time_table = tl.zeros([TABLE], tl.float32)
    position_sums = tl.zeros([TABLE], tl.float32)
    time_sums = tl.zeros([TABLE], tl.float32)
    if NUM_POSITION > 0:
        position_table = load_table(PositionBias, NUM_POSITION, TABLE)
    if NUM_TIME > 0:
        time_table = load_table(TimeBias, NUM_TIME, TABLE)
        key_time = tl.load(Time + start + key_place, mask=real_key, other=tl.load(Time + start + first))

    for at in tl.range(0, num_uniform):
        entry = tl.load(Tiles + at)
        bias = uniform_bias(entry, PositionBias, TimeBias, NUM_POSITION, NUM_TIME)
        first_query = tile_number(entry) * QUERIES
        place = first_query + tl.arange(0, QUERIES)
        query = load_rows(
            Query, start + first_query, head * query_head, query_row, total_rows, QUERIES, D, TMA
        )
        output = load_rows(
            OutputGradient, start + first_query, head * output_head, output_row, total_rows, QUERIES, D, TMA
        )
        if UPCAST:
            query, output = query.to(tl.float32), output.to(tl.float32)
        log_sum, delta = 0.0, 0.0
        if KIND == SOFTMAX:
            log_sum, delta = tl.load(LogSum + place)[None, :], tl.load(Delta + place)[None, :]
        product = tl.dot(
            key, query.T, input_precision=PRECISION
        )  # [KEYS, QUERIES], as everything of a tile here
        output_product = tl.dot(value, output.T, input_precision=PRECISION)
        weight, gradient = score_gradients(
            product, bias, output_product, log_sum, delta, True, scale, KIND, False, FAST
        )
        value_gradient = tl.dot(weight.to(output.dtype), output, value_gradient, input_precision=PRECISION)
        narrow = gradient.to(query.dtype)
        key_gradient = tl.dot(narrow, query, key_gradient, input_precision=PRECISION)
        if NUM_POSITION > 0 or NUM_TIME > 0:
            tile_sum = tl.sum(tl.sum(gradient, 1), 0)
            bucket = tl.arange(0, TABLE)
            position_sums += tl.where(bucket == position_bucket(entry), tile_sum, 0.0)
            time_sums += tl.where(bucket == time_bucket(entry), tile_sum, 0.0)
        if ADD_QUERY:
            step = tl.dot(narrow.T, key, input_precision=PRECISION) * (scale * inverse_normaliser)
            if REDUCE:
                QueryGradient.atomic_add([start + first_query, head * D], step)
            else:
                slot = ((start + place).to(tl.int64) * heads + head)[:, None] * D + column[None, :]
                tl.atomic_add(QueryGradient + slot, step, sem="relaxed")

    for at in tl.range(num_uniform, num_tiles):
        first_query = tile_number(tl.load(Tiles + at)) * QUERIES
        place = first_query + tl.arange(0, QUERIES)
        real = place < length
        query = load_rows(
            Query, start + first_query, head * query_head, query_row, total_rows, QUERIES, D, TMA
        )
        output = load_rows(
            OutputGradient, start + first_query, head * output_head, output_row, total_rows, QUERIES, D, TMA
        )
        query = tl.where(real[:, None], query, 0.0).to(query.dtype)
        output = tl.where(real[:, None], output, 0.0).to(output.dtype)
        if UPCAST:
            query, output = query.to(tl.float32), output.to(tl.float32)
        log_sum, delta = 0.0, 0.0
        if KIND == SOFTMAX:
            log_sum = tl.load(LogSum + place, mask=real, other=0.0)[None, :]
            delta = tl.load(Delta + place, mask=real, other=0.0)[None, :]
        query_time = tl.zeros([QUERIES], tl.int32)
        if NUM_TIME > 0:
            query_time = tl.load(Time + start + place, mask=real, other=tl.load(Time + start + first_query))
        bias = tile_bias(
            place[None, :], key_place[:, None], query_time[None, :], key_time[:, None], history,
            position_table, time_table, NUM_POSITION, NUM_TIME, KEYS, QUERIES,
        )  # fmt: skip
        visible = visible_pairs(place[None, :], key_place[:, None], history, window, prefix)
        visible = visible & real[None, :] & real_key[:, None]
        product = tl.dot(key, query.T, input_precision=PRECISION)
        output_product = tl.dot(value, output.T, input_precision=PRECISION)
        weight, gradient = score_gradients(
            product, bias, output_product, log_sum, delta, visible, scale, KIND, True, FAST
        )
        value_gradient = tl.dot(weight.to(output.dtype), output, value_gradient, input_precision=PRECISION)
        narrow = gradient.to(query.dtype)
        key_gradient = tl.dot(narrow, query, key_gradient, input_precision=PRECISION)
        if NUM_POSITION > 0:
            position = tl.minimum(place, history)
            distance = position[None, :] - key_place[:, None]
            shortest, longest = tl.min(position, 0) - first - KEYS + 1, tl.max(position, 0) - first
            position_sums = _add_by_bucket(
                position_sums, gradient, distance, shortest, longest, NUM_POSITION, TABLE
            )
        if NUM_TIME > 0:
            distance = query_time[None, :] - key_time[:, None]
            shortest = tl.min(query_time, 0) - tl.max(key_time, 0)
            longest = tl.max(query_time, 0) - tl.min(key_time, 0)
            time_sums = _add_by_bucket(time_sums, gradient, distance, shortest, longest, NUM_TIME, TABLE)
        if ADD_QUERY:
            step = tl.dot(narrow.T, key, input_precision=PRECISION) * (scale * inverse_normaliser)
            if REDUCE:
                QueryGradient.atomic_add([start + first_query, head * D], step)
            else:
                slot = ((start + place).to(tl.int64) * heads + head)[:, None] * D + column[None, :]
                tl.atomic_add(QueryGradient + slot, step, sem="relaxed", mask=real[:, None])

    slot = ((start + key_place).to(tl.int64) * heads + head)[:, None] * D + column[None, :]
    key_gradient *= scale * inverse_normaliser
    value_gradient *= inverse_normaliser
    tl.store(KeyGradient + slot, key_gradient.to(KeyGradient.dtype.element_ty), mask=real_key[:, None])
    tl.store(ValueGradient + slot, value_gradient.to(ValueGradient.dtype.element_ty), mask=real_key[:, None])
    sums = TableGradient + (block.to(tl.int64) * heads + head) * 2 * TABLE + tl.arange(0, TABLE)
    if NUM_POSITION > 0:
        tl.store(sums, position_sums * inverse_normaliser)
    if NUM_TIME > 0:
        tl.store(sums + TABLE, time_sums * inverse_normaliser)
