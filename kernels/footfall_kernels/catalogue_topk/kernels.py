"""Kernels of `catalogue_topk`.

One pass over the table keeps of every 32 scores, a group, the largest, and of every 32 groups, a node: 1/32 of the
matrix of scores. The k largest hold their maxima in at most k nodes, those in at most k groups, so that selection
descends: it sorts few values a step, and scores only k groups again. Exclusions are one bit a user and item, one word
a group.
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
    user, table, scale, excluded, maxima, node_maxima, users, table_rows, groups, nodes, rows_a_node,
    WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr, BLOCK_USERS: tl.constexpr, BLOCK_ITEMS: tl.constexpr,
    SCALED: tl.constexpr, EXCLUDES: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One block of users against one node; maxima fp32 [users, groups], node_maxima fp32 [users, nodes]."""
    GROUPS: tl.constexpr = BLOCK_ITEMS // 32
    at = tl.arange(0, BLOCK_WIDTH)
    row = tl.program_id(0) * BLOCK_USERS + tl.arange(0, BLOCK_USERS)
    real = row < users
    wide = real[:, None] & (at[None, :] < WIDTH)
    here = tl.load(user + row.to(tl.int64)[:, None] * WIDTH + at[None, :], mask=wide, other=0.0)
    if UPCAST:
        here = here.to(tl.float32)
    node = tl.program_id(1)
    first = node * rows_a_node
    best = tl.full([BLOCK_USERS], float("-inf"), tl.float32)
    for start in tl.range(first, tl.minimum(first + rows_a_node, table_rows), BLOCK_ITEMS):
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
        largest = tl.max(score, 2)
        tl.store(maxima + place, largest, mask=stored)
        best = tl.maximum(best, tl.max(largest, 1))
    tl.store(node_maxima + row.to(tl.int64) * nodes + node, best, mask=real)


@triton.jit  # type: ignore[untyped-decorator]
def group_scores_kernel(  # type: ignore[no-untyped-def]
    user, table, scale, excluded, chosen, scores, table_rows, groups,
    WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr, SCALED: tl.constexpr, EXCLUDES: tl.constexpr,
):  # fmt: skip
    """One chosen group of one user: chosen int32 [users, chosen_groups], scores fp32 [users, chosen_groups, 32]."""
    row = tl.program_id(0).to(tl.int64)
    place = row * tl.num_programs(1) + tl.program_id(1)
    group = tl.load(chosen + place).to(tl.int64)
    at = tl.arange(0, BLOCK_WIDTH)
    item = group * 32 + tl.arange(0, 32)
    allowed = (item > 0) & (item < table_rows)  # none where no group was left to choose: -1
    inside = allowed[:, None] & (at[None, :] < WIDTH)
    here = tl.load(user + row * WIDTH + at, mask=at < WIDTH, other=0.0).to(tl.float32)
    tile = tl.load(table + item[:, None] * WIDTH + at[None, :], mask=inside, other=0).to(tl.float32)
    score = tl.sum(tile * here[None, :], 1)
    if SCALED:
        score *= tl.load(scale + item, mask=allowed, other=0.0)
    if EXCLUDES:
        word = tl.load(excluded + row * groups + group, mask=group >= 0, other=0)
        allowed = allowed & (((word >> tl.arange(0, 32)) & 1) == 0)
    tl.store(scores + place * 32 + tl.arange(0, 32), tl.where(allowed, score, float("-inf")))


@triton.jit  # type: ignore[untyped-decorator]
def best_children_kernel(  # type: ignore[no-untyped-def]
    values, parents, best, best_value, row_values, children, num_parents, wanted,
    PACKED: tl.constexpr, NOBODY: tl.constexpr, SLOTS: tl.constexpr, KEPT: tl.constexpr, COUNTS: tl.constexpr,
):  # fmt: skip
    """The `wanted` largest of a user's values, in order, among the 32 children of each of its parents.

    parents int32 [users, num_parents], below 0 where there is none; without them all are looked into. The value of
    child c is values[user, c] of [users, row_values], or, PACKED, stands where its parent does: [users, num_parents,
    32]. Children from `children` on do not exist. best int32 [users, wanted] gets the children, equal values by
    ascending index, and NOBODY for what is -inf or not there; best_value, if given, fp32 [users, wanted].

    COUNTS orders by counting the larger keys: for the interpreter, where tl.topk takes 0.1 s and more a program.
    """
    user = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, SLOTS)
    if parents is None:
        parent = tl.where(slot < num_parents, slot, -1)
    else:
        parent = tl.load(parents + user * num_parents + slot, mask=slot < num_parents, other=-1)
    own = slot[:, None] * 32 + tl.arange(0, 32)[None, :]
    # Where there is no parent, numbers that no other key has.
    child = tl.where(parent[:, None] >= 0, parent[:, None] * 32 + tl.arange(0, 32)[None, :], -1 - own)
    real = (child >= 0) & (child < children)
    if PACKED:
        place = own
    else:
        place = child
    value = tl.load(values + user * row_values + place, mask=real, other=float("-inf"))
    bits = (value + 0.0).to(tl.int32, bitcast=True)  # -0.0 + 0.0 is 0.0, so that both are equal
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = (ordered.to(tl.int64) << 32) + (0x7FFFFFFF - child.to(tl.int64))
    key = tl.reshape(key, [SLOTS * 32])
    if COUNTS:
        rank = tl.sum((key[None, :] > key[:, None]).to(tl.int32), 1)
    else:
        key = tl.topk(key, KEPT)
        rank = tl.arange(0, KEPT)
    ordered = (key >> 32).to(tl.int32)
    value = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    child = (0x7FFFFFFF - (key & 0xFFFFFFFF)).to(tl.int32)
    tl.store(best + user * wanted + rank, tl.where(value == float("-inf"), NOBODY, child), mask=rank < wanted)
    if best_value is not None:
        tl.store(best_value + user * wanted + rank, value, mask=rank < wanted)
