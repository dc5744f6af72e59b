"""Launchers of the kernels of `catalogue_topk`, and every shipped variant of them."""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from footfall.contract import PADDING_INDEX
from footfall_kernels.catalogue_topk.kernels import (
    best_children_kernel,
    exclude_kernel,
    group_maxima_kernel,
    group_scores_kernel,
)
from footfall_kernels.catalogue_topk.largest import GROUP, decode, group_maxima, keys, largest_index
from footfall_kernels.checks import MAX_WIDTH
from footfall_kernels.launch import Variant, interpreted, upcast

MOST_KEPT = 128
"""The largest k that one program sorts out of its 32 k candidates; a larger one is chosen by torch."""
MOST_ROOTS = 4096
"""Maxima that are sorted without a level above them."""
EXCLUDE_PARTS, EXCLUDE_BLOCK = 8, 256
TRITON_TYPE = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.int8: "i8"}


class Blocks(NamedTuple):
    """Users and items of a tile, warps, and stages of the pipeline."""

    users: int
    items: int
    num_warps: int
    num_stages: int


def blocks(width: int, user: torch.dtype, table: torch.dtype) -> Blocks:
    """Launch configuration of the pass over the table, on every chip: tiles of 16 KiB, three on their way.

    Two programs share a multiprocessor, so that one loads while the other scores: 98,560 bytes of shared memory each
    at width 256, where tiles of 64 items would take 164,352 (sm_90). An fp32 user spills with four warps, and beside
    an int8 table in two stages; that table spills with four warps on sm_100 (triton 3.8.0).
    """
    if user == torch.float32:
        return Blocks(32, 32, 8, 1 if table == torch.int8 else 2)
    if table == torch.int8:
        return Blocks(64, 64 if width > 128 else 128, 8, 4)
    return Blocks(64, 32 if width > 128 else 64, 4, 4)


def catalogue_topk_triton(
    user: Tensor,
    table: Tensor,
    k: int,
    values: Tensor | None,
    offsets: Tensor | None,
    unlisted: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See `catalogue_topk`. Holds 4 bytes a user and 32 items, and as much again where items are kept out."""
    user, table = user.contiguous(), table.contiguous()
    users, width = user.shape
    if users == 0:
        return user.new_empty((0, k), dtype=torch.int32), user.new_empty((0, k), dtype=torch.float32)
    groups, nodes = triton.cdiv(len(table), GROUP), triton.cdiv(len(table), GROUP * GROUP)
    scale = None if scale is None else scale.contiguous()
    excluded = None
    if unlisted is not None:
        excluded = user.new_zeros((1, groups), dtype=torch.int32)
        everyones = torch.arange(2, device=user.device) * len(unlisted)
        _exclude(unlisted, everyones, excluded, len(table))
        excluded = excluded.repeat(users, 1)
    if values is not None and offsets is not None:
        excluded = user.new_zeros((users, groups), dtype=torch.int32) if excluded is None else excluded
        _exclude(values, offsets, excluded, len(table))
    shape = {
        "WIDTH": width,
        "BLOCK_WIDTH": max(triton.next_power_of_2(width), 32),
        "SCALED": scale is not None,
        "EXCLUDES": excluded is not None,
    }
    maxima = user.new_empty((users, groups), dtype=torch.float32)
    node_maxima = user.new_empty((users, nodes), dtype=torch.float32)
    block_users, block_items, num_warps, num_stages = blocks(width, user.dtype, table.dtype)
    group_maxima_kernel[(triton.cdiv(users, block_users), nodes)](
        user, table, scale, excluded, maxima, node_maxima, users, len(table), groups, nodes, GROUP * GROUP,
        **shape, BLOCK_USERS=block_users, BLOCK_ITEMS=block_items, UPCAST=upcast(user.dtype),
        num_warps=num_warps, num_stages=num_stages,
    )  # fmt: skip
    chosen = _descend(maxima, node_maxima, k) if k <= MOST_KEPT else largest_index(maxima, k).int()
    scores = user.new_empty((*chosen.shape, GROUP), dtype=torch.float32)
    group_scores_kernel[tuple(chosen.shape)](
        user, table, scale, excluded, chosen, scores, len(table), groups, **shape, num_warps=4
    )
    if k > MOST_KEPT:
        item = chosen.long().unsqueeze(2) * GROUP + torch.arange(GROUP, device=user.device)
        return decode(keys(scores, item).flatten(1), k)
    index, score = (user.new_empty((users, k), dtype=dtype) for dtype in (torch.int32, torch.float32))
    _best_children(scores, chosen, index, score, children=len(table))
    return index, score


def _exclude(values: Tensor, offsets: Tensor, excluded: Tensor, table_rows: int) -> None:
    """See the kernel: one list for each row of `excluded`."""
    rows, groups = excluded.shape
    exclude_kernel[(rows, EXCLUDE_PARTS)](
        values.contiguous(), offsets.contiguous(), excluded, len(values), table_rows, groups,
        PARTS=EXCLUDE_PARTS, BLOCK=EXCLUDE_BLOCK, num_warps=4,
    )  # fmt: skip


def _descend(maxima: Tensor, node_maxima: Tensor, k: int) -> Tensor:
    """Groups with the k largest maxima, int32 [users, at most k]: from all nodes down, k at a level."""
    levels = [node_maxima, maxima]
    while levels[0].shape[1] > MOST_ROOTS:
        levels.insert(0, group_maxima(levels[0]))
    chosen = None
    for level in levels:
        best = maxima.new_empty((len(level), min(k, level.shape[1])), dtype=torch.int32)
        _best_children(level, chosen, best, None, children=level.shape[1])
        chosen = best
    assert chosen is not None
    return chosen


def _best_children(
    values: Tensor, parents: Tensor | None, best: Tensor, best_value: Tensor | None, children: int
) -> None:
    """See the kernel; with `best_value` this is the last step, down to items."""
    users, wanted = best.shape
    num_parents = triton.cdiv(children, GROUP) if parents is None else parents.shape[1]
    kept = max(triton.next_power_of_2(wanted), 2)
    best_children_kernel[(users,)](
        values, parents, best, best_value, values[0].numel(), children, num_parents, wanted,
        PACKED=best_value is not None, NOBODY=-1 if best_value is None else PADDING_INDEX,
        SLOTS=triton.next_power_of_2(max(num_parents, triton.cdiv(kept, GROUP))), KEPT=kept, COUNTS=interpreted(),
        num_warps=8,
    )  # fmt: skip


def variants(arch: int) -> list[Variant]:
    """Every kernel and pair of dtypes, by width one of each launch configuration; other widths only mask more."""
    return list(_variants())


def _variants() -> Iterator[Variant]:
    counts = dict.fromkeys(("table_rows", "groups"), "i32")
    yield Variant(
        "catalogue_topk_exclude",
        exclude_kernel,
        {"values": "*i32", "offsets": "*i64", "excluded": "*i32", "count": "i32", **counts},
        {"PARTS": EXCLUDE_PARTS, "BLOCK": EXCLUDE_BLOCK},
        ("values", "offsets", "excluded"),
        num_warps=4,
        num_stages=3,
    )
    for k, step in product((16, MOST_KEPT), ("root", "group", "item")):
        pointers = {"values": "*fp32", "best": "*i32"}
        constants: dict[str, Any] = {
            "PACKED": step == "item",
            "NOBODY": PADDING_INDEX if step == "item" else -1,
        }
        for optional, kind, present in (
            ("parents", "*i32", step != "root"),
            ("best_value", "*fp32", step == "item"),
        ):
            if present:
                pointers[optional] = kind
            else:
                constants[optional] = None
        yield Variant(
            f"catalogue_topk_best_children_{step}_{k}",
            best_children_kernel,
            {**pointers, **dict.fromkeys(("row_values", "children", "num_parents", "wanted"), "i32")},
            {**constants, "SLOTS": k, "KEPT": k, "COUNTS": False},
            tuple(pointers),
            num_warps=8,
            num_stages=3,
        )
    floats = (torch.float16, torch.bfloat16, torch.float32)
    pairs = [*((dtype, dtype) for dtype in floats), *((dtype, torch.int8) for dtype in floats)]
    for (of_user, of_table), width, excludes in product(pairs, (64, 256), (False, True)):
        block_users, block_items, num_warps, num_stages = blocks(width, of_user, of_table)
        scaled = of_table == torch.int8
        name = f"{TRITON_TYPE[of_user]}_{TRITON_TYPE[of_table]}_{width}{'_excludes' if excludes else ''}"
        given = {"user": f"*{TRITON_TYPE[of_user]}", "table": f"*{TRITON_TYPE[of_table]}"}
        constants = {
            "WIDTH": width,
            "BLOCK_WIDTH": width,
            "SCALED": scaled,
            "EXCLUDES": excludes,
        }
        for optional, kind, present in (("scale", "*fp32", scaled), ("excluded", "*i32", excludes)):
            if present:
                given[optional] = kind
            else:
                constants[optional] = None
        yield Variant(
            f"catalogue_topk_group_maxima_{name}",
            group_maxima_kernel,
            {
                **given,
                **dict.fromkeys(("maxima", "node_maxima"), "*fp32"),
                "users": "i32",
                **counts,
                "nodes": "i32",
                "rows_a_node": "i32",
            },
            {**constants, "BLOCK_USERS": block_users, "BLOCK_ITEMS": block_items, "UPCAST": False},
            (*given, "maxima", "node_maxima", "rows_a_node"),
            num_warps,
            num_stages,
            scores=block_users * block_items,
        )
        if width < MAX_WIDTH:
            continue
        yield Variant(
            f"catalogue_topk_group_scores_{name}",
            group_scores_kernel,
            {**given, "chosen": "*i32", "scores": "*fp32", **counts},
            constants,
            (*given, "chosen", "scores"),
            num_warps=4,
            num_stages=3,
        )
