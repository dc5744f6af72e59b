"""Kernels of `linear_cross_entropy`.

Columns are what a token is scored against: all items (rows 1.. of the table), or the sampled negatives, whose rows
are gathered first. The forward pass is attention with the columns as keys and as values: it keeps a running
log-sum-exp and sum(exp * row) of a block of tokens, over one split of the columns; a second kernel joins splits, adds
the target and leaves loss and gradient by hidden. The table's gradient is the same loop with tokens and columns
swapped. Four matrix products in all, none of whose [tokens, columns] results leaves its tile.

Exponentials are powers of two. A reference exponent is the largest score less SHIFT, so that what fp16 would lose
below 2^-24 of the largest still counts.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
LOWEST = tl.constexpr(-1e30)


@triton.jit  # type: ignore[untyped-decorator]
def _read(pointer, first, count, WIDTH: tl.constexpr, BLOCK: tl.constexpr, BLOCK_WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows first.. of [count, WIDTH], zeros where there are none."""
    row = first + tl.arange(0, BLOCK)
    at = tl.arange(0, BLOCK_WIDTH)
    inside = (row[:, None] < count) & (at[None, :] < WIDTH)
    return tl.load(pointer + row.to(tl.int64)[:, None] * WIDTH + at[None, :], mask=inside, other=0.0)


@triton.jit  # type: ignore[untyped-decorator]
def _product(a, b, UPCAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """a @ b.T in fp32."""
    if UPCAST:
        return tl.dot(a.to(tl.float32), tl.trans(b.to(tl.float32)), input_precision="ieee")
    return tl.dot(a, tl.trans(b), input_precision="ieee")


@triton.jit  # type: ignore[untyped-decorator]
def _add_product(total, weight, rows, UPCAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """total + weight @ rows, the weights rounded to the type of the rows."""
    if UPCAST:
        return tl.dot(weight, rows.to(tl.float32), total, input_precision="ieee")
    return tl.dot(weight.to(rows.dtype), rows, total, input_precision="ieee")


@triton.jit  # type: ignore[untyped-decorator]
def forward_kernel(  # type: ignore[no-untyped-def]
    hidden, rows, negative, bias, target, reference, total, weighted, tokens, columns, columns_a_split,
    WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
    SAMPLED: tl.constexpr, GRADIENTS: tl.constexpr, SHIFT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One block of tokens against one split of the columns.

    reference, total [splits, tokens] and weighted [splits, tokens, WIDTH]: exponent, sum(2^(score - exponent)) and
    the same sum weighted by rows.
    """
    token = tl.program_id(0) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
    split = tl.program_id(1)
    here = _read(hidden, tl.program_id(0) * BLOCK_TOKENS, tokens, WIDTH, BLOCK_TOKENS, BLOCK_WIDTH)
    if SAMPLED:
        own = tl.load(target + token, mask=token < tokens, other=0).to(tl.int32)
    exponent = tl.full([BLOCK_TOKENS], LOWEST, tl.float32)
    summed = tl.zeros([BLOCK_TOKENS], tl.float32)
    accumulated = tl.zeros([BLOCK_TOKENS, BLOCK_WIDTH], tl.float32)
    first = split * columns_a_split
    last = tl.minimum(first + columns_a_split, columns)
    for start in tl.range(first, last, BLOCK_COLUMNS):
        column = start + tl.arange(0, BLOCK_COLUMNS)
        tile = _read(rows, start, columns, WIDTH, BLOCK_COLUMNS, BLOCK_WIDTH)
        score = _product(here, tile, UPCAST)
        counts = column[None, :] < last
        if SAMPLED:
            score += tl.load(bias + column, mask=column < columns, other=0.0)[None, :]
            item = tl.load(negative + column, mask=column < columns, other=0).to(tl.int32)
            counts = counts & (item[None, :] != own[:, None])
        score = tl.where(counts, score, float("-inf"))
        raised = tl.maximum(exponent, tl.max(score, 1) * LOG2E - SHIFT)
        rescale = tl.exp2(exponent - raised)
        power = tl.exp2(score * LOG2E - raised[:, None])
        summed = summed * rescale + tl.sum(power, 1)
        if GRADIENTS:
            accumulated = _add_product(accumulated * rescale[:, None], power, tile, UPCAST)
        exponent = raised
    place = split * tokens + token
    tl.store(reference + place, exponent, mask=token < tokens)
    tl.store(total + place, summed, mask=token < tokens)
    if GRADIENTS:
        at = tl.arange(0, BLOCK_WIDTH)
        inside = (token[:, None] < tokens) & (at[None, :] < WIDTH)
        tl.store(weighted + place.to(tl.int64)[:, None] * WIDTH + at[None, :], accumulated, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def merge_kernel(  # type: ignore[no-untyped-def]
    hidden, table, target, reference, total, weighted, loss, softmax, grad_hidden, tokens, table_rows, splits,
    WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr, BLOCK_TOKENS: tl.constexpr,
    SAMPLED: tl.constexpr, GRADIENTS: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    """Joins the splits and adds the target.

    loss [tokens]; softmax [2, tokens]: log2 of the sum of exponentials, and the target's probability among its
    columns minus one (minus one outright where the columns hold the target themselves); grad_hidden [tokens, WIDTH].
    """
    first = tl.program_id(0) * BLOCK_TOKENS
    token = first + tl.arange(0, BLOCK_TOKENS)
    at = tl.arange(0, BLOCK_WIDTH)
    real = token < tokens
    inside = real[:, None] & (at[None, :] < WIDTH)
    exponent = tl.full([BLOCK_TOKENS], LOWEST, tl.float32)
    summed = tl.zeros([BLOCK_TOKENS], tl.float32)
    accumulated = tl.zeros([BLOCK_TOKENS, BLOCK_WIDTH], tl.float32)
    for split in tl.range(0, splits):
        place = split * tokens + token
        theirs = tl.load(reference + place, mask=real, other=0.0)
        raised = tl.maximum(exponent, theirs)
        ours, theirs = tl.exp2(exponent - raised), tl.exp2(theirs - raised)
        summed = summed * ours + tl.load(total + place, mask=real, other=1.0) * theirs
        if GRADIENTS:
            part = tl.load(
                weighted + place.to(tl.int64)[:, None] * WIDTH + at[None, :], mask=inside, other=0.0
            )
            accumulated = accumulated * ours[:, None] + part * theirs[:, None]
        exponent = raised
    own = tl.load(target + token, mask=real, other=1)
    is_item = (own > 0) & (own < table_rows)
    row = tl.load(table + own[:, None] * WIDTH + at[None, :], mask=inside & is_item[:, None], other=0.0).to(
        tl.float32
    )
    here = _read(hidden, first, tokens, WIDTH, BLOCK_TOKENS, BLOCK_WIDTH).to(tl.float32)
    positive = tl.sum(here * row, 1)
    if SAMPLED:
        raised = tl.maximum(exponent, positive * LOG2E - SHIFT)
        summed = summed * tl.exp2(exponent - raised) + tl.exp2(positive * LOG2E - raised)
    else:
        raised = exponent
    log2_total = raised + tl.log2(summed)
    tl.store(loss + token, tl.where(is_item, log2_total * LN2 - positive, float("nan")), mask=real)
    if GRADIENTS:
        pull = tl.full([BLOCK_TOKENS], -1.0, tl.float32)
        if SAMPLED:
            pull += tl.exp2(positive * LOG2E - log2_total)
        tl.store(softmax + token, log2_total, mask=real)
        tl.store(softmax + tokens + token, pull, mask=real)
        gradient = accumulated * tl.exp2(exponent - log2_total)[:, None] + pull[:, None] * row
        place = token.to(tl.int64)[:, None] * WIDTH + at[None, :]
        tl.store(grad_hidden + place, gradient.to(grad_hidden.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def table_gradient_kernel(  # type: ignore[no-untyped-def]
    hidden, rows, negative, bias, target, softmax, scale, grad_rows, tokens, columns, tokens_a_split,
    WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
    SAMPLED: tl.constexpr, SHIFT: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One block of columns against one split of the tokens; grad_rows [splits, columns, WIDTH]; scale a pointer."""
    first_column = tl.program_id(0) * BLOCK_COLUMNS
    column = first_column + tl.arange(0, BLOCK_COLUMNS)
    split = tl.program_id(1)
    tile = _read(rows, first_column, columns, WIDTH, BLOCK_COLUMNS, BLOCK_WIDTH)
    if SAMPLED:
        item = tl.load(negative + column, mask=column < columns, other=0).to(tl.int32)
        correction = tl.load(bias + column, mask=column < columns, other=0.0) * LOG2E
    else:
        item = column + 1
    accumulated = tl.zeros([BLOCK_COLUMNS, BLOCK_WIDTH], tl.float32)
    first = split * tokens_a_split
    last = tl.minimum(first + tokens_a_split, tokens)
    for start in tl.range(first, last, BLOCK_TOKENS):
        token = start + tl.arange(0, BLOCK_TOKENS)
        here = _read(hidden, start, tokens, WIDTH, BLOCK_TOKENS, BLOCK_WIDTH)
        own = tl.load(target + token, mask=token < last, other=0).to(tl.int32)
        log2_total = tl.load(softmax + token, mask=token < last, other=float("inf")) - SHIFT
        score = _product(tile, here, UPCAST) * LOG2E
        is_target = item[:, None] == own[None, :]
        if SAMPLED:
            power = tl.exp2(score + correction[:, None] - log2_total[None, :])
            power = tl.where(is_target, 0.0, power)
        else:
            power = tl.exp2(score - log2_total[None, :])
            power = tl.where(is_target, power - (1 << SHIFT), power)
        accumulated = _add_product(accumulated, power, here, UPCAST)
    accumulated *= tl.load(scale) * (1.0 / (1 << SHIFT))
    at = tl.arange(0, BLOCK_WIDTH)
    inside = (column[:, None] < columns) & (at[None, :] < WIDTH)
    place = (split.to(tl.int64) * columns + column)[:, None] * WIDTH + at[None, :]
    tl.store(grad_rows + place, accumulated.to(grad_rows.dtype.element_ty), mask=inside)
