"""Launchers of the kernels of `linear_cross_entropy`, and every shipped variant of them."""

from collections.abc import Iterator
from itertools import product
from math import ceil
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from footfall.contract import PADDING_INDEX
from footfall_kernels.checks import MAX_WIDTH
from footfall_kernels.launch import Variant, architecture, upcast
from footfall_kernels.linear_cross_entropy.kernels import forward_kernel, merge_kernel, table_gradient_kernel

PROGRAMS = 512
"""Programs that a launch is split into, if it has fewer: about four for each multiprocessor of an H100."""
MERGE_TOKENS = 16
SHIFT = {torch.float16: 15, torch.bfloat16: 0, torch.float32: 0}
TRITON_TYPE = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


class Blocks(NamedTuple):
    """Rows that a program keeps, rows it takes in one turn of its loop, warps, and stages of the loop's pipeline."""

    kept: int
    turn: int
    num_warps: int
    num_stages: int


def blocks(arch: int, width: int, dtype: torch.dtype) -> Blocks:
    """Launch configuration of both loops, by the compiler's facts: no spill, and shared memory within the chip's."""
    if dtype == torch.float32:
        # More rows or stages spill, up to 5 KB of stack (sm_90, triton 3.8.0).
        return Blocks(32, 16, 8, 1) if width > 64 else Blocks(32, 16, 4, 2)
    if arch < 90:
        return Blocks(64, 32, 4, 2) if width > 128 else Blocks(128, 64, 8, 2)
    if arch >= 100 and width > 128:
        return Blocks(64, 64, 8, 2)
    return Blocks(128, 64, 8, 2 if width > 128 else 3)


def forward(
    hidden: Tensor,
    table: Tensor,
    target: Tensor,
    negative: Tensor | None,
    log_q: Tensor | None,
    gradients: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean loss []; with `gradients` also tokens times the gradient by hidden, and `softmax` [2, tokens]."""
    hidden, table, target = hidden.contiguous(), table.contiguous(), target.contiguous()
    tokens, width = hidden.shape
    rows, negative, bias = _columns(table, negative, log_q)
    shape, sampled = _shape(hidden), negative is not None
    kept, turn, num_warps, num_stages = blocks(architecture(hidden.device), width, hidden.dtype)
    splits, columns_a_split = _split(len(rows), turn, PROGRAMS, triton.cdiv(tokens, kept))
    reference, total = hidden.new_empty((2, splits, tokens), dtype=torch.float32)
    weighted = hidden.new_empty((splits, tokens, width) if gradients else 0, dtype=torch.float32)
    loss = hidden.new_empty(tokens, dtype=torch.float32)
    softmax = hidden.new_empty((2, tokens) if gradients else 0, dtype=torch.float32)
    grad_hidden = hidden.new_empty((tokens, width) if gradients else 0)
    forward_kernel[(triton.cdiv(tokens, kept), splits)](
        hidden, rows, negative, bias, target, reference, total, weighted, tokens, len(rows), columns_a_split,
        **shape, BLOCK_TOKENS=kept, BLOCK_COLUMNS=turn, SAMPLED=sampled, GRADIENTS=gradients,
        UPCAST=upcast(hidden.dtype), num_warps=num_warps, num_stages=num_stages,
    )  # fmt: skip
    merge_kernel[(triton.cdiv(tokens, MERGE_TOKENS),)](
        hidden, table, target, reference, total, weighted, loss, softmax, grad_hidden, tokens, len(table), splits,
        **shape, BLOCK_TOKENS=MERGE_TOKENS, SAMPLED=sampled, GRADIENTS=gradients, num_warps=4,
    )  # fmt: skip
    return loss.mean(), grad_hidden, softmax


def table_gradient(
    scale: Tensor,
    hidden: Tensor,
    table: Tensor,
    target: Tensor,
    negative: Tensor | None,
    log_q: Tensor | None,
    softmax: Tensor,
) -> Tensor:
    """Gradient by table, times `scale` (a tensor [], so that nothing waits for the GPU)."""
    hidden, table, target = hidden.contiguous(), table.contiguous(), target.contiguous()
    tokens, width = hidden.shape
    rows, negative, bias = _columns(table, negative, log_q)
    grad_table = table.new_empty(table.shape) if negative is None else table.new_zeros(table.shape)
    kept, turn, num_warps, num_stages = blocks(architecture(hidden.device), width, hidden.dtype)
    splits, tokens_a_split = _split(tokens, turn, PROGRAMS, triton.cdiv(len(rows), kept))
    grad_rows = grad_table[PADDING_INDEX + 1 :]
    if splits > 1 or negative is not None:
        grad_rows = table.new_empty((splits, len(rows), width), dtype=torch.float32)
    table_gradient_kernel[(triton.cdiv(len(rows), kept), splits)](
        hidden, rows, negative, bias, target, softmax, scale.float(), grad_rows, tokens, len(rows), tokens_a_split,
        **_shape(hidden), BLOCK_TOKENS=turn, BLOCK_COLUMNS=kept, SAMPLED=negative is not None,
        UPCAST=upcast(hidden.dtype), num_warps=num_warps, num_stages=num_stages,
    )  # fmt: skip
    if negative is not None:
        by_target = hidden * (softmax[1] * scale).unsqueeze(1)
        values = torch.cat([grad_rows.sum(0), by_target]).to(table.dtype)
        # Sorted by index on a GPU: deterministic, and repeats of an item are summed in fp32.
        return grad_table.index_put_((torch.cat([negative, target]),), values, accumulate=True)
    grad_table[PADDING_INDEX] = 0
    if splits > 1:
        grad_table[PADDING_INDEX + 1 :] = grad_rows.sum(0)
    return grad_table


def variants(arch: int) -> list[Variant]:
    """Every kernel and dtype, full and sampled, by width one of each launch configuration."""
    return list(_variants(arch))


def _variants(arch: int) -> Iterator[Variant]:
    for dtype, width, sampled in product(SHIFT, (64, 128, 256), (False, True)):
        kept, turn, num_warps, num_stages = blocks(arch, width, dtype)
        name = f"linear_cross_entropy_%s_{TRITON_TYPE[dtype]}_{width}_{'sampled' if sampled else 'full'}"
        element = f"*{TRITON_TYPE[dtype]}"
        shape = {"WIDTH": width, "BLOCK_WIDTH": width, "SHIFT": SHIFT[dtype], "SAMPLED": sampled}
        pointers = {"hidden": element, "rows": element, "target": "*i64"}
        none = {} if sampled else {"negative": None, "bias": None}
        if sampled:
            pointers |= {"negative": "*i64", "bias": "*fp32"}
        shared: dict[str, Any] = {"num_warps": num_warps, "num_stages": num_stages, "scores": kept * turn}
        for gradients in (True, False) if width == MAX_WIDTH else (True,):
            made = dict.fromkeys(("reference", "total", "weighted"), "*fp32")
            yield Variant(
                name % ("forward" if gradients else "loss_only"),
                forward_kernel,
                {**pointers, **made, **dict.fromkeys(("tokens", "columns", "columns_a_split"), "i32")},
                {
                    **shape,
                    **none,
                    "BLOCK_TOKENS": kept,
                    "BLOCK_COLUMNS": turn,
                    "GRADIENTS": gradients,
                    "UPCAST": False,
                },
                (*pointers, *made, "tokens", "columns_a_split"),
                **shared,
            )
            if width < MAX_WIDTH:
                continue
            made |= dict.fromkeys(("loss", "softmax"), "*fp32") | {"grad_hidden": element}
            given = {"hidden": element, "table": element, "target": "*i64"}
            yield Variant(
                name % ("merge" if gradients else "merge_loss_only"),
                merge_kernel,
                {**given, **made, **dict.fromkeys(("tokens", "table_rows", "splits"), "i32")},
                {**shape, "BLOCK_TOKENS": MERGE_TOKENS, "GRADIENTS": gradients},
                (*given, *made, "tokens"),
                num_warps=4,
                num_stages=3,
            )
        made = {"softmax": "*fp32", "scale": "*fp32", "grad_rows": "*fp32" if sampled else element}
        yield Variant(
            name % "table_gradient",
            table_gradient_kernel,
            {**pointers, **made, **dict.fromkeys(("tokens", "columns", "tokens_a_split"), "i32")},
            {**shape, **none, "BLOCK_TOKENS": turn, "BLOCK_COLUMNS": kept, "UPCAST": False},
            (*pointers, *made, "tokens", "tokens_a_split"),
            **shared,
        )


def _columns(
    table: Tensor, negative: Tensor | None, log_q: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Rows [columns, width] to score against; for sampled ones also their items and what their logits start from."""
    if negative is None:
        return table[PADDING_INDEX + 1 :], None, None
    bias = torch.zeros_like(negative, dtype=torch.float32) if log_q is None else -log_q[negative].float()
    return table[negative], negative.contiguous(), bias


def _shape(hidden: Tensor) -> dict[str, Any]:
    width = hidden.shape[1]
    return {
        "WIDTH": width,
        "BLOCK_WIDTH": max(triton.next_power_of_2(width), 16),
        "SHIFT": SHIFT[hidden.dtype],
    }


def _split(length: int, turn: int, programs: int, blocks: int) -> tuple[int, int]:
    """Splits of a loop over `length`, and the length of each, whole turns: as many as make `programs` of `blocks`."""
    turns = ceil(length / turn)
    a_split = ceil(turns / min(ceil(programs / blocks), turns)) * turn
    return ceil(length / a_split), a_split
