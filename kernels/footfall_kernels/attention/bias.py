"""Attention bias: of one number a tile, of two buckets a table, or looked up pair by pair; see tile_plan."""

import triton
import triton.language as tl

from footfall_kernels.attention.tile_plan_kernels import STEPPED
from footfall_kernels.attention.tiles import LOG2E, SILU, position_bucket, time_bucket
from footfall_kernels.device_functions import bucket_of


@triton.jit  # type: ignore[untyped-decorator]
def bias_unit(KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    """What a bias is multiplied by, once a table and not once a score: silu_of_double and exp2 take it so."""
    if KIND == SILU:
        unit = 0.5
    else:
        unit = LOG2E
    return unit


@triton.jit  # type: ignore[untyped-decorator]
def uniform_bias(  # type: ignore[no-untyped-def]
    entry, PositionBias, TimeBias, NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, KIND: tl.constexpr
):  # fmt: skip
    """The one bias of a uniform tile."""
    bias = 0.0
    if NUM_POSITION > 0:
        bias += tl.load(PositionBias + position_bucket(entry)).to(tl.float32)
    if NUM_TIME > 0:
        bias += tl.load(TimeBias + time_bucket(entry)).to(tl.float32)
    return bias * bias_unit(KIND)


@triton.jit
def beyond(bucket, query, key):  # type: ignore[no-untyped-def]
    """Whether the distance from `key` to `query`, broadcast int32, is past the last of the bucket; of 31 none is."""
    last = (1 << bucket) - 1
    return tl.maximum(query, last - 2147483647) - last > key


@triton.jit  # type: ignore[untyped-decorator]
def next_bucket(bucket, NUM: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.minimum(bucket + 1, NUM - 1)


@triton.jit  # type: ignore[untyped-decorator]
def _step(Table, bucket, far, NUM: tl.constexpr, KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    near_bias, far_bias = tl.load(Table + bucket), tl.load(Table + next_bucket(bucket, NUM))
    unit = bias_unit(KIND)
    return tl.where(far, far_bias.to(tl.float32) * unit, near_bias.to(tl.float32) * unit)


@triton.jit  # type: ignore[untyped-decorator]
def _stepped_bias(  # type: ignore[no-untyped-def]
    entry, query_position, key_place, query_time, key_time, PositionBias, TimeBias,
    NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Bias of every pair of a stepped tile, of broadcast positions, places and times."""
    if NUM_POSITION == 0:
        far = beyond(time_bucket(entry), query_time, key_time)
        bias = _step(TimeBias, time_bucket(entry), far, NUM_TIME, KIND)
    else:
        far = beyond(position_bucket(entry), query_position, key_place)
        bias = _step(PositionBias, position_bucket(entry), far, NUM_POSITION, KIND)
        if NUM_TIME > 0:
            far = beyond(time_bucket(entry), query_time, key_time)
            bias += _step(TimeBias, time_bucket(entry), far, NUM_TIME, KIND)
    return bias


@triton.jit  # type: ignore[untyped-decorator]
def _load_table(Table, NUM: tl.constexpr, PADDED: tl.constexpr, KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    """A head's bias table in registers, so that look-ups are tl.gather and not loads: fp32 [PADDED]."""
    place = tl.arange(0, PADDED)
    return tl.load(Table + place, mask=place < NUM, other=0.0).to(tl.float32) * bias_unit(KIND)


@triton.jit  # type: ignore[untyped-decorator]
def look_up(table, bucket, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.gather(table, bucket.reshape([ROWS * COLUMNS]), 0).reshape([ROWS, COLUMNS])


@triton.jit  # type: ignore[untyped-decorator]
def _mixed_bias(  # type: ignore[no-untyped-def]
    query_position, key_place, query_time, key_time, PositionBias, TimeBias,
    NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, TABLE: tl.constexpr, KIND: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Bias of every pair of a mixed tile, of broadcast positions, places and times."""
    bias = tl.zeros([ROWS, COLUMNS], tl.float32)
    if NUM_POSITION > 0:
        table = _load_table(PositionBias, NUM_POSITION, TABLE, KIND)
        bias += look_up(table, bucket_of(query_position - key_place, NUM_POSITION), ROWS, COLUMNS)
    if NUM_TIME > 0:
        table = _load_table(TimeBias, NUM_TIME, TABLE, KIND)
        bias += look_up(table, bucket_of(query_time - key_time, NUM_TIME), ROWS, COLUMNS)
    return bias


@triton.jit  # type: ignore[untyped-decorator]
def pair_bias(  # type: ignore[no-untyped-def]
    entry, query_place, key_place, query_time, key_time, history, PositionBias, TimeBias,
    NUM_POSITION: tl.constexpr, NUM_TIME: tl.constexpr, TABLE: tl.constexpr, KIND: tl.constexpr,
    CLASS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Bias of every pair of a tile that is not uniform, of broadcast places and times."""
    query_position = tl.minimum(query_place, history)  # candidates stand right behind the history
    if CLASS == STEPPED:
        bias = _stepped_bias(
            entry, query_position, key_place, query_time, key_time, PositionBias, TimeBias,
            NUM_POSITION, NUM_TIME, KIND,
        )  # fmt: skip
    else:
        bias = _mixed_bias(
            query_position, key_place, query_time, key_time, PositionBias, TimeBias,
            NUM_POSITION, NUM_TIME, TABLE, KIND, ROWS, COLUMNS,
        )  # fmt: skip
    return bias
