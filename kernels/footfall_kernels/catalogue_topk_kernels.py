"""Kernels of `catalogue_topk`.

One pass over the table keeps, of every 32 scores, the largest: 1/32 of the matrix of scores. The k groups with the
largest maxima hold the k best items, so a second kernel scores only those again. Exclusions are one bit a user and
item, one word a group.
"""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def exclude_kernel(  # type: ignore[no-untyped-def]
    values, offsets, excluded, count, table_rows, groups, PARTS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Sets the bits of one user's excluded items in `excluded` int32 [users, groups], which starts as zeros."""
    user = tl.program_id(0)
    first = tl.maximum(tl.load(offsets + user), 0)
    last = tl.minimum(tl.load(offsets + user + 1), count)
    for start in tl.range(first + tl.program_id(1) * BLOCK, last, PARTS * BLOCK):
        place = start + tl.arange(0, BLOCK)
        item = tl.load(values + place, mask=place < last, other=0)
        is_item = (item > 0) & (item < table_rows)
        word = excluded + user.to(tl.int64) * groups + item // 32
        tl.atomic_or(word, tl.full([BLOCK], 1, tl.int32) << (item % 32), mask=is_item, sem="relaxed")


@triton.jit  # type: ignore[untyped-decorator]
def group_maxima_kernel(  # type: ignore[no-untyped-def]
    user, table, scale, excluded, maxima, users, table_rows, groups, rows_a_split,
    WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr, BLOCK_USERS: tl.constexpr, BLOCK_ITEMS: tl.constexpr,
    SCALED: tl.constexpr, EXCLUDES: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One block of users against one split of the table; maxima fp32 [users, groups]."""
    GROUPS: tl.constexpr = BLOCK_ITEMS // 32
    at = tl.arange(0, BLOCK_WIDTH)
    row = tl.program_id(0) * BLOCK_USERS + tl.arange(0, BLOCK_USERS)
    real = row < users
    wide = real[:, None] & (at[None, :] < WIDTH)
    here = tl.load(user + row.to(tl.int64)[:, None] * WIDTH + at[None, :], mask=wide, other=0.0)
    if UPCAST:
        here = here.to(tl.float32)
    first = tl.program_id(1) * rows_a_split
    last = tl.minimum(first + rows_a_split, table_rows)
    for start in tl.range(first, last, BLOCK_ITEMS):
        item = start + tl.arange(0, BLOCK_ITEMS)
        inside = (item[:, None] < table_rows) & (at[None, :] < WIDTH)
        tile = tl.load(table + item.to(tl.int64)[:, None] * WIDTH + at[None, :], mask=inside, other=0)
        score = tl.dot(here, tl.trans(tile.to(here.dtype)), input_precision="ieee")
        if SCALED:
            score *= tl.load(scale + item, mask=item < table_rows, other=0.0)[None, :]
        score = tl.where((item > 0) & (item < table_rows), score, float("-inf"))
        score = tl.reshape(score, [BLOCK_USERS, GROUPS, 32])
        group = start // 32 + tl.arange(0, GROUPS)
        place = row.to(tl.int64)[:, None] * groups + group[None, :]
        stored = real[:, None] & (group[None, :] < groups)
        if EXCLUDES:
            word = tl.load(excluded + place, mask=stored, other=0)
            bit = (word[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
            score = tl.where(bit != 0, float("-inf"), score)
        tl.store(maxima + place, tl.max(score, 2), mask=stored)


@triton.jit  # type: ignore[untyped-decorator]
def group_scores_kernel(  # type: ignore[no-untyped-def]
    user, table, scale, excluded, chosen, scores, table_rows, groups,
    WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr, SCALED: tl.constexpr, EXCLUDES: tl.constexpr,
):  # fmt: skip
    """One chosen group of one user: chosen int64 [users, chosen_groups], scores fp32 [users, chosen_groups, 32]."""
    row = tl.program_id(0).to(tl.int64)
    place = row * tl.num_programs(1) + tl.program_id(1)
    group = tl.load(chosen + place)
    at = tl.arange(0, BLOCK_WIDTH)
    item = group * 32 + tl.arange(0, 32)
    inside = (item[:, None] < table_rows) & (at[None, :] < WIDTH)
    here = tl.load(user + row * WIDTH + at, mask=at < WIDTH, other=0.0).to(tl.float32)
    tile = tl.load(table + item[:, None] * WIDTH + at[None, :], mask=inside, other=0).to(tl.float32)
    score = tl.sum(tile * here[None, :], 1)
    if SCALED:
        score *= tl.load(scale + item, mask=item < table_rows, other=0.0)
    allowed = (item > 0) & (item < table_rows)
    if EXCLUDES:
        word = tl.load(excluded + row * groups + group)
        allowed = allowed & (((word >> tl.arange(0, 32)) & 1) == 0)
    tl.store(scores + place * 32 + tl.arange(0, 32), tl.where(allowed, score, float("-inf")))
