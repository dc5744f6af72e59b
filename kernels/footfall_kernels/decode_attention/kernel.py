"""Kernels of decode_attention: attention to pages and to the new rows, the merging of splits, and append."""

import triton
import triton.language as tl

from footfall_kernels.attention.bias import look_up
from footfall_kernels.attention.tiles import LOG2E, silu_of_double
from footfall_kernels.device_functions import bucket_of

LOWEST = tl.constexpr(-1e30)
"""A score that no real one falls below; finite, so that the difference of two is a number."""
TABLE = tl.constexpr(32)
"""Bit lengths an int32 can have: a table padded to so many with its last value needs no upper bound."""


@triton.jit  # type: ignore[untyped-decorator]
def _load_table(Table, head, NUM: tl.constexpr, unit):  # type: ignore[no-untyped-def]
    place = tl.minimum(tl.arange(0, TABLE), NUM - 1)
    return tl.load(Table + head * NUM + place).to(tl.float32) * unit


@triton.jit  # type: ignore[untyped-decorator]
def _load_tile(Pool, row, places, stride, HEAD_DIM: tl.constexpr, UPCAST: tl.constexpr):  # type: ignore[no-untyped-def]
    at = places[:, None] * stride + tl.arange(0, HEAD_DIM)[None, :]
    tile = tl.load(Pool + row + at)
    return tile.to(tl.float32) if UPCAST else tile


@triton.jit  # type: ignore[untyped-decorator]
def _accumulate(  # type: ignore[no-untyped-def]
    query, key, value, bias, visible, factor, total, highest, weight_sum,
    SILU: tl.constexpr, BIASED: tl.constexpr, MASKED: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Add a tile of keys. Scores are halved for silu and in base 2 for softmax, as `factor` and `bias` are."""
    product = tl.dot(query, key.T, input_precision="ieee")
    if SILU:
        weight = silu_of_double(product * factor + bias if BIASED else product * factor, FAST)
        if MASKED:
            weight = tl.where(visible, weight, 0.0)
    else:
        if BIASED or MASKED:
            score = product * factor + bias
            if MASKED:
                score = tl.where(visible, score, LOWEST)
            rise = tl.maximum(highest, tl.max(score, 1))
            weight = tl.exp2(score - rise[:, None])
        else:
            # The greatest product has the greatest score, `factor` being positive: one FMA a score.
            rise = tl.maximum(highest, tl.max(product, 1) * factor)
            weight = tl.exp2(product * factor - rise[:, None])
        shrink = tl.exp2(highest - rise)
        weight_sum = weight_sum * shrink + tl.sum(weight, 1)
        total = total * shrink[:, None]
        highest = rise
    total = tl.dot(weight.to(value.dtype), value, total, input_precision="ieee")
    return total, highest, weight_sum


@triton.jit  # type: ignore[untyped-decorator]
def key_bias(  # type: ignore[no-untyped-def]
    CachedTime, PageTable, Lengths, Time, PositionBias, TimeBias, KeyBias, heads, max_pages, capacity,
    NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, SILU: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    """KeyBias fp32 [batch, heads, capacity]: what all new rows of a sequence add to their scores with a cached key.

    Looked up once a key: within a tile of scores every thread would look up most of the tile's keys itself, which
    costs 11 instructions a score; a load of these costs 1.
    """
    batch = tl.program_id(1).to(tl.int64)
    length = tl.load(Lengths + batch)
    if tl.program_id(0) * PAGE < length:
        page = tl.load(PageTable + batch * max_pages + tl.program_id(0)).to(tl.int64)
        position = tl.program_id(0) * PAGE + tl.arange(0, PAGE)
        unit = 0.5 if SILU else LOG2E
        if NUM_TIME > 0:
            apart = tl.load(Time + batch) - tl.load(CachedTime + page * PAGE + tl.arange(0, PAGE))
        for head in range(heads):
            bias = tl.zeros([PAGE], tl.float32)
            if NUM_POSITION > 0:
                table = _load_table(PositionBias, head, NUM_POSITION, unit)
                bias += tl.gather(table, bucket_of(length - position, TABLE), 0)
            if NUM_TIME > 0:
                table = _load_table(TimeBias, head, NUM_TIME, unit)
                bias += tl.gather(table, bucket_of(apart, TABLE), 0)
            tl.store(KeyBias + (batch * heads + head) * capacity + position, bias)


@triton.jit  # type: ignore[untyped-decorator]
def _walk(  # type: ignore[no-untyped-def]
    first, last, query, position, now, position_table, time_table, length, total, highest, weight_sum,
    K, V, CachedTime, PageTable, KeyBias, stride, factor,
    KEY_BIAS: tl.constexpr, POSITION: tl.constexpr, TIME: tl.constexpr, SILU: tl.constexpr, PAGE: tl.constexpr,
    HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
    FAST: tl.constexpr, UPCAST: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Cached tiles `first` to `last`: what all rows share of the bias is KEY_BIAS, the rest is looked up a score."""
    places = tl.arange(0, TILE)
    for tile in tl.range(first, last):
        page = tl.load(PageTable + tile * TILE // PAGE).to(tl.int64)
        row = page * PAGE + tile * TILE % PAGE
        key = _load_tile(K, row * stride, places, stride, HEAD_DIM, UPCAST)
        value = _load_tile(V, row * stride, places, stride, HEAD_DIM, UPCAST)
        key_position = tile * TILE + places
        bias = tl.zeros([1, TILE], tl.float32)
        if KEY_BIAS:
            bias += tl.load(KeyBias + key_position)[None, :]
        if POSITION:
            bucket = bucket_of(position[:, None] - key_position[None, :], TABLE)
            bias += look_up(position_table, bucket, BLOCK, TILE)
        if TIME:
            bucket = bucket_of(now[:, None] - tl.load(CachedTime + row + places)[None, :], TABLE)
            bias += look_up(time_table, bucket, BLOCK, TILE)
        total, highest, weight_sum = _accumulate(
            query, key, value, bias, (key_position < length)[None, :], factor, total, highest, weight_sum,
            SILU, KEY_BIAS or POSITION or TIME, MASKED, FAST,
        )  # fmt: skip
    return total, highest, weight_sum


@triton.jit  # type: ignore[untyped-decorator]
def attend(  # type: ignore[no-untyped-def]
    Query, NewKey, NewValue, K, V, CachedTime, PageTable, Lengths, Time, PositionBias, TimeBias, KeyBias, Output,
    Sums, scale, inverse, rows, heads, max_pages, capacity,
    NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, SILU: tl.constexpr, CAUSAL: tl.constexpr,
    ONE_TIME: tl.constexpr, SPLIT: tl.constexpr, PAGE: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
    TILE: tl.constexpr, FAST: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """BLOCK rows of one head against one split of the cached keys; the last split adds the new rows.

    Output: [batch, rows, heads, HEAD_DIM], or with SPLIT fp32 partial sums [splits, ...] with Sums [splits, batch,
    rows, heads, 2]: each row's greatest score (base 2), and its sum of weights relative to that.
    """
    # What all rows share of the bias to a cached key is in KeyBias, the rest is looked up a score.
    POSITION: tl.constexpr = NUM_POSITION > 0 and CAUSAL
    TIME: tl.constexpr = NUM_TIME > 0 and not ONE_TIME
    KEY_BIAS: tl.constexpr = (NUM_POSITION > 0 and not CAUSAL) or (NUM_TIME > 0 and ONE_TIME)
    batch, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    split, splits = tl.program_id(2), tl.num_programs(2)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = place < rows
    columns, stride = tl.arange(0, HEAD_DIM), heads * HEAD_DIM
    new = batch.to(tl.int64) * rows * stride + head * HEAD_DIM
    at = new + place[:, None] * stride + columns[None, :]
    query = tl.load(Query + at, mask=real[:, None], other=0.0)
    if UPCAST:
        query = query.to(tl.float32)
    length = tl.load(Lengths + batch)
    unit = 0.5 if SILU else LOG2E
    factor = scale * unit

    position, now, position_table, time_table = length + place, 0, 0, 0
    if POSITION:
        position_table = _load_table(PositionBias, head, NUM_POSITION, unit)
    if TIME:
        time_table = _load_table(TimeBias, head, NUM_TIME, unit)
        now = tl.load(Time + 2 * (batch * rows + place) + 1, mask=real, other=0)
    total = tl.zeros([BLOCK, HEAD_DIM], tl.float32)
    highest = tl.full([BLOCK], LOWEST, tl.float32)
    weight_sum = tl.zeros([BLOCK], tl.float32)

    share = tl.cdiv(tl.cdiv(length, TILE), splits)
    first = split * share
    last = tl.minimum(first + share, tl.cdiv(length, TILE))
    full = tl.minimum(last, length // TILE)
    K += head * HEAD_DIM
    V += head * HEAD_DIM
    PageTable += batch * max_pages
    if KEY_BIAS:
        KeyBias += tl.program_id(1).to(tl.int64) * capacity
    total, highest, weight_sum = _walk(
        first, full, query, position, now, position_table, time_table, length, total, highest, weight_sum,
        K, V, CachedTime, PageTable, KeyBias, stride, factor,
        KEY_BIAS, POSITION, TIME, SILU, PAGE, HEAD_DIM, BLOCK, TILE, FAST, UPCAST, False,
    )  # fmt: skip
    total, highest, weight_sum = _walk(
        tl.maximum(first, full), last, query, position, now, position_table, time_table, length, total, highest,
        weight_sum, K, V, CachedTime, PageTable, KeyBias, stride, factor,
        KEY_BIAS, POSITION, TIME, SILU, PAGE, HEAD_DIM, BLOCK, TILE, FAST, UPCAST, True,
    )  # fmt: skip

    if split == splits - 1:
        if CAUSAL:
            for start in tl.range(0, tl.minimum((tl.program_id(0) + 1) * BLOCK, rows), TILE):
                other = start + tl.arange(0, TILE)
                beside = new + other[:, None] * stride + columns[None, :]
                key = tl.load(NewKey + beside, mask=(other < rows)[:, None], other=0.0)
                value = tl.load(NewValue + beside, mask=(other < rows)[:, None], other=0.0)
                if UPCAST:
                    key, value = key.to(tl.float32), value.to(tl.float32)
                bias = tl.zeros([1, TILE], tl.float32)
                if POSITION:
                    bucket = bucket_of(place[:, None] - other[None, :], TABLE)
                    bias += look_up(position_table, bucket, BLOCK, TILE)
                if TIME:
                    then = tl.load(Time + 2 * (batch * rows + other), mask=other < rows, other=0)
                    bucket = bucket_of(now[:, None] - then[None, :], TABLE)  # type: ignore[index]
                    bias += look_up(time_table, bucket, BLOCK, TILE)
                elif NUM_TIME > 0:
                    bias += tl.load(TimeBias + head * NUM_TIME).to(tl.float32) * unit
                total, highest, weight_sum = _accumulate(
                    query, key, value, bias, place[:, None] >= other[None, :], factor, total, highest, weight_sum,
                    SILU, NUM_POSITION + NUM_TIME > 0, True, FAST,
                )  # fmt: skip
        else:
            # A candidate and itself: a product a row, no tile.
            key = tl.load(NewKey + at, mask=real[:, None], other=0.0).to(tl.float32)
            value = tl.load(NewValue + at, mask=real[:, None], other=0.0).to(tl.float32)
            score = tl.sum(query.to(tl.float32) * key, 1) * factor
            if NUM_POSITION > 0:
                score += tl.load(PositionBias + head * NUM_POSITION).to(tl.float32) * unit
            if TIME:
                then = tl.load(Time + 2 * (batch * rows + place), mask=real, other=0)
                score += tl.gather(time_table, bucket_of(now - then, TABLE), 0)
            elif NUM_TIME > 0:
                score += tl.load(TimeBias + head * NUM_TIME).to(tl.float32) * unit
            if SILU:
                total += silu_of_double(score, FAST)[:, None] * value
            else:
                rise = tl.maximum(highest, score)
                shrink, weight = tl.exp2(highest - rise), tl.exp2(score - rise)
                weight_sum = weight_sum * shrink + weight
                total = total * shrink[:, None] + weight[:, None] * value
                highest = rise

    if SILU:
        total *= inverse
    if SPLIT:
        whole = tl.num_programs(1).to(tl.int64) * rows
        if not SILU:
            sums = Sums + (split * whole + batch.to(tl.int64) * rows * heads + place * heads + head) * 2
            tl.store(sums, highest, mask=real)
            tl.store(sums + 1, weight_sum, mask=real)
        Output += split * whole * HEAD_DIM
    elif not SILU:
        total = total / weight_sum[:, None]
    tl.store(Output + at, total.to(Output.dtype.element_ty), mask=real[:, None])


@triton.jit  # type: ignore[untyped-decorator]
def merge(  # type: ignore[no-untyped-def]
    Partials, Sums, Output, splits, total,
    SILU: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Partials fp32 [splits, total, HEAD_DIM] -> [total, HEAD_DIM], in the order of the splits."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = place < total
    at = place[:, None] * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    result = tl.zeros([BLOCK, HEAD_DIM], tl.float32)
    highest = tl.full([BLOCK], LOWEST, tl.float32)
    weight_sum = tl.zeros([BLOCK], tl.float32)
    for _ in range(splits):
        part = tl.load(Partials + at, mask=real[:, None], other=0.0)
        if SILU:
            result += part
        else:
            peak = tl.load(Sums + place * 2, mask=real, other=0.0)
            weight = tl.load(Sums + place * 2 + 1, mask=real, other=1.0)
            rise = tl.maximum(highest, peak)
            shrink, share = tl.exp2(highest - rise), tl.exp2(peak - rise)
            weight_sum = weight_sum * shrink + weight * share
            result = result * shrink[:, None] + part * share[:, None]
            highest = rise
            Sums += total.to(tl.int64) * 2
        Partials += total.to(tl.int64) * HEAD_DIM
    if not SILU:
        result = result / weight_sum[:, None]
    tl.store(Output + at, result.to(Output.dtype.element_ty), mask=real[:, None])


@triton.jit  # type: ignore[untyped-decorator]
def append_pages(  # type: ignore[no-untyped-def]
    NewKey, NewValue, NewTime, K, V, CachedTime, PageTable, Lengths, Sequences, Offsets, max_pages, page, width,
    TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """One tile of one sequence, WIDTH of a row's columns: rows behind its length, then zeros to the tile's end.

    0 times what a page held before may be NaN, and would reach the sum of a masked tile.
    """
    sequence = tl.load(Sequences + tl.program_id(0)).to(tl.int64)
    source = tl.load(Offsets + tl.program_id(0)).to(tl.int64)
    count = (tl.load(Offsets + tl.program_id(0) + 1) - source).to(tl.int32)
    length = tl.load(Lengths + sequence)
    tile = length // TILE + tl.program_id(1)
    last_tile = tl.cdiv(length + count, page) * (page // TILE)
    if (tile < last_tile) & (count > 0):
        place = tl.load(PageTable + sequence * max_pages + tile * TILE // page).to(tl.int64) * page
        place += tile * TILE % page + tl.arange(0, TILE)
        step = tile * TILE + tl.arange(0, TILE) - length
        fresh, given = step >= 0, (step >= 0) & (step < count)
        column = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
        inside = (column < width)[None, :]
        read = (source + step)[:, None] * width + column[None, :]
        write = place[:, None] * width + column[None, :]
        key = tl.load(NewKey + read, mask=given[:, None] & inside, other=0.0)
        value = tl.load(NewValue + read, mask=given[:, None] & inside, other=0.0)
        tl.store(K + write, key, mask=fresh[:, None] & inside)
        tl.store(V + write, value, mask=fresh[:, None] & inside)
        if tl.program_id(2) == 0:
            time = tl.load(NewTime + source + step, mask=given, other=0)
            tl.store(CachedTime + place, time, mask=fresh)
