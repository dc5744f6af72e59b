"""Launchers of the kernels of `catalogue_topk`, and every shipped variant of them."""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from footfall_kernels.catalogue_topk_kernels import exclude_kernel, group_maxima_kernel, group_scores_kernel
from footfall_kernels.largest import GROUP, decode, keys, largest_index
from footfall_kernels.launch import Variant, upcast

MAX_WIDTH = 256
PROGRAMS = 264
"""Programs that share the table: two for each multiprocessor of an H100."""
EXCLUDE_PARTS, EXCLUDE_BLOCK = 8, 256
TRITON_TYPE = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.int8: "i8"}


class Blocks(NamedTuple):
    """Users and items of a tile, warps, and stages of the pipeline."""

    users: int
    items: int
    num_warps: int
    num_stages: int


def blocks(width: int, user: torch.dtype, table: torch.dtype) -> Blocks:
    """Launch configuration of the pass over the table, on every chip: tiles of at most 32 KiB, three on their way.

    An int8 table spills with an fp32 user in two stages, and on sm_100 with four warps (triton 3.8.0).
    """
    if user == torch.float32:
        return Blocks(32, 32, 4, 1 if table == torch.int8 else 2)
    return Blocks(64, 64 if width > 128 else 128, 8 if table == torch.int8 else 4, 4)


def catalogue_topk_triton(
    user: Tensor,
    table: Tensor,
    k: int,
    values: Tensor | None,
    offsets: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See `catalogue_topk`. Holds 4 bytes a user and 32 items, and as much again with exclusions."""
    user, table = user.contiguous(), table.contiguous()
    users, width = user.shape
    if users == 0:
        return user.new_empty((0, k), dtype=torch.int32), user.new_empty((0, k), dtype=torch.float32)
    groups = triton.cdiv(len(table), GROUP)
    scale = None if scale is None else scale.contiguous()
    excluded = None
    if values is not None and offsets is not None:
        excluded = user.new_zeros((users, groups), dtype=torch.int32)
        exclude_kernel[(users, EXCLUDE_PARTS)](
            values.contiguous(), offsets.contiguous(), excluded, len(values), len(table), groups,
            PARTS=EXCLUDE_PARTS, BLOCK=EXCLUDE_BLOCK, num_warps=4,
        )  # fmt: skip
    shape = {
        "WIDTH": width,
        "BLOCK_WIDTH": max(triton.next_power_of_2(width), 32),
        "SCALED": scale is not None,
        "EXCLUDES": excluded is not None,
    }
    maxima = user.new_empty((users, groups), dtype=torch.float32)
    block_users, block_items, num_warps, num_stages = blocks(width, user.dtype, table.dtype)
    user_blocks = triton.cdiv(users, block_users)
    tiles = triton.cdiv(len(table), block_items)
    rows_a_split = triton.cdiv(tiles, triton.cdiv(PROGRAMS, user_blocks)) * block_items
    group_maxima_kernel[(user_blocks, triton.cdiv(len(table), rows_a_split))](
        user, table, scale, excluded, maxima, users, len(table), groups, rows_a_split,
        **shape, BLOCK_USERS=block_users, BLOCK_ITEMS=block_items, UPCAST=upcast(user.dtype),
        num_warps=num_warps, num_stages=num_stages,
    )  # fmt: skip
    chosen = largest_index(maxima, k)
    scores = user.new_empty((*chosen.shape, GROUP), dtype=torch.float32)
    group_scores_kernel[tuple(chosen.shape)](
        user, table, scale, excluded, chosen, scores, len(table), groups, **shape, num_warps=4
    )
    item = chosen.unsqueeze(2) * GROUP + torch.arange(GROUP, device=user.device)
    return decode(keys(scores, item).flatten(1), k)


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
    floats = (torch.float16, torch.bfloat16, torch.float32)
    pairs = [*((dtype, dtype) for dtype in floats), *((dtype, torch.int8) for dtype in floats)]
    for (of_user, of_table), width, excludes in product(pairs, (64, 256), (False, True)):
        block_users, block_items, num_warps, num_stages = blocks(width, of_user, of_table)
        scaled = of_table == torch.int8
        name = f"{TRITON_TYPE[of_user]}_{TRITON_TYPE[of_table]}_{width}{'_excludes' if excludes else ''}"
        given = {"user": f"*{TRITON_TYPE[of_user]}", "table": f"*{TRITON_TYPE[of_table]}"}
        constants: dict[str, Any] = {
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
            {**given, "maxima": "*fp32", "users": "i32", **counts, "rows_a_split": "i32"},
            {**constants, "BLOCK_USERS": block_users, "BLOCK_ITEMS": block_items, "UPCAST": False},
            (*given, "maxima", "rows_a_split"),
            num_warps,
            num_stages,
            scores=block_users * block_items,
        )
        if width < MAX_WIDTH:
            continue
        yield Variant(
            f"catalogue_topk_group_scores_{name}",
            group_scores_kernel,
            {**given, "chosen": "*i64", "scores": "*fp32", **counts},
            constants,
            (*given, "chosen", "scores"),
            num_warps=4,
            num_stages=3,
        )
