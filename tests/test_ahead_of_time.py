"""What the compiler makes of the kernels for chips that are not here; in a process without the interpreter."""

import functools
import json
import os
import subprocess
import sys

import pytest

from footfall_kernels.ahead_of_time import ARCHITECTURES, SHARED_MEMORY_LIMIT

# Instructions a score in the interior loop, head_dim 64; Meta's open kernels take 17 to 18 and 38 to 41.
FORWARD, BACKWARD = 8, 20
MUFU = 1.1
REGISTERS = 65_536
"""Of a multiprocessor."""
# Every variant of head_dim 64, or those with most to keep in registers.
HOPPER, TABLES = "d64 bf16", "d64 bf16 + position"
CHIPS = [pytest.param(arch, marks=() if arch == 90 else pytest.mark.slow) for arch in ARCHITECTURES]
"""Hopper in `make test`, the other chips in `make test-compile`."""


@functools.cache
def facts(arch: int, only: str, named: str) -> list[dict[str, float]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "footfall_kernels.ahead_of_time"]
    options = ["--arch", str(arch), "--only", only, "--named", named]
    run = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def named(rows: list[dict[str, float]], text: str) -> list[dict[str, float]]:
    found = [row for row in rows if text in str(row["name"])]
    assert found
    return found


@pytest.mark.parametrize("arch", CHIPS)
def test_attention_runs_on_tensor_cores_within_the_chips_memory_and_spills_nothing(arch: int) -> None:
    instruction = {80: "mma_sync", 90: "wgmma", 100: "tcgen05"}[arch]
    for row in facts(arch, "attention", HOPPER if arch == 90 else TABLES):
        assert row[instruction] > 0
        assert row["shared"] <= SHARED_MEMORY_LIMIT[arch]
        assert row["mufu_per_score"] <= MUFU
        assert bool(row["tma_loads"]) == (arch >= 90)
        assert row["stack"] == 0


@pytest.mark.parametrize("arch", CHIPS[1:])
def test_wide_heads_with_tables_spill_nothing_where_there_is_tensor_memory_access(arch: int) -> None:
    for row in facts(arch, "attention", "softmax d128 bf16 + position"):
        assert row["stack"] == 0
        assert row["shared"] <= SHARED_MEMORY_LIMIT[arch]
        assert row["mma_sync"] == 0


def test_on_hopper_fp8_costs_no_more_instructions_than_bf16() -> None:
    (half,) = named(facts(90, "attention", HOPPER), "forward silu d64 bf16 + position and time bias")
    (narrow,) = facts(90, "attention", "silu d64 fp8 + position")
    assert narrow["stack"] == 0
    assert narrow["wgmma"] > 0
    assert narrow["instructions_per_score"] <= half["instructions_per_score"]


def test_on_hopper_the_forward_loop_leaves_room_for_the_tensor_cores() -> None:
    rows = facts(90, "attention", HOPPER)
    for row in named(rows, "forward silu"):
        assert row["instructions_per_score"] <= FORWARD
    for row in named(rows, "forward"):
        # Two programs fit on a multiprocessor, so that one's products run beside the other's SiLU.
        assert row["registers"] * 32 * row["num_warps"] * 2 <= REGISTERS
        assert row["shared"] * 2 <= SHARED_MEMORY_LIMIT[90]


def test_on_hopper_the_backward_loop_keeps_within_its_budget() -> None:
    for row in named(facts(90, "attention", HOPPER), "backward"):
        assert row["instructions_per_score"] <= BACKWARD
        assert row["mma_sync"] == 0
    for row in named(facts(90, "attention", HOPPER), "by key"):
        # A uniform tile of query gradients is added by one instruction.
        assert row["tma_reductions"] == (0 if "alone" in str(row["name"]) else 1)


@pytest.mark.parametrize(
    "only", ["catalogue_topk", "decode_attention", "embed_events", "linear_cross_entropy"]
)
def test_the_other_kernels_spill_nothing(only: str) -> None:
    rows = facts(90, only, "bf16")
    assert rows
    for row in rows:
        assert row["stack"] == 0
        assert row["shared"] <= SHARED_MEMORY_LIMIT[90]


@pytest.mark.slow
@pytest.mark.timeout(3600)  # about 3 minutes on two free cores
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nothing_that_is_shipped_spills(arch: int) -> None:
    for row in facts(arch, "", ""):
        assert row["stack"] == 0, row["name"]
        assert row["shared"] <= SHARED_MEMORY_LIMIT[arch], row["name"]
