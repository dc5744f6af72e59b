"""Plans of tiles against every pair of a batch."""

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from attention_case import LENGTHS, RULES, Case, bits, is_near
from conftest import DEVICE

from footfall_kernels.attention.configurations import backward_configuration, forward_configuration
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.plan import plan_attention
from footfall_kernels.attention.rules import NO_WINDOW, AttentionRules
from footfall_kernels.attention.tile_plan import TilePlan
from footfall_kernels.launch import architecture

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("rules", RULES)
def test_a_plan_holds_every_tile_with_a_visible_pair_once_in_its_class(rules: str, by_key: bool) -> None:
    case = Case.make(DEVICE, "silu", **RULES[rules])
    options, kept = dict(case.options), AttentionRules("silu", 1.0, window=NO_WINDOW)
    kept = dataclasses.replace(kept, window=options.get("window", NO_WINDOW), prefix=options.get("prefix", 0))
    extras = Extras(options.get("num_candidates"), options.get("time"), *case.tables)
    plan = plan_attention(
        case.fused[:, 0], case.offsets, kept, max(LENGTHS), extras, implementation="triton"
    ).parts
    assert isinstance(plan, TilePlan)
    lists = plan.by_key if by_key else plan.by_query
    arch = architecture(case.fused.device)
    configure = backward_configuration if by_key else forward_configuration
    shape = configure(arch, 32, torch.float32)
    rows, columns = (shape.keys, shape.queries) if by_key else (shape.queries, shape.keys)
    seen = set()
    for block, counts, tiles in zip(
        lists.blocks.tolist(), lists.counts.tolist(), lists.tiles.tolist(), strict=True
    ):
        start, length, history, first = block
        uniform, stepped, _ = counts
        for at, entry in enumerate(tiles[: sum(counts)]):
            tile = entry & 0xFFF
            cells = [
                (column, row) if by_key else (row, column)
                for row in range(first, first + rows)
                for column in range(tile * columns, (tile + 1) * columns)
            ]
            visible = [_visible(query, key, length, history, options) for query, key in cells]
            assert any(visible)
            assert (start, first, tile) not in seen
            seen.add((start, first, tile))
            if at < uniform + stepped:
                real = [
                    one for one, (query, _) in zip(visible, cells, strict=True) if query < length or by_key
                ]
                assert all(real)
                lowest = ((entry >> 12) & 0x3F, entry >> 18)
                buckets = {
                    _buckets(query, key, start, history, case) for query, key in cells if query < length
                }
                assert all(
                    0 <= bucket - low <= (at >= uniform)
                    for pair in buckets
                    for bucket, low in zip(pair, lowest, strict=True)
                )
    expected = {
        (start, (key if by_key else query) // rows * rows, (query if by_key else key) // columns)
        for sequence, (start, end) in enumerate(itertools.pairwise(case.offsets.tolist()))
        for query, key in itertools.product(range(end - start), repeat=2)
        if _visible(query, key, end - start, _history(sequence, end - start, options), options)
    }
    assert seen == expected


def _history(sequence: int, length: int, options: dict[str, Any]) -> int:
    return length - int(options["num_candidates"][sequence]) if "num_candidates" in options else length


def _visible(query: int, key: int, length: int, history: int, options: dict[str, Any]) -> bool:
    if query >= length or key >= length:
        return False
    place = min(query, history)
    return key == query or (key < history and key <= place and is_near(place - key, key, options))


def _buckets(query: int, key: int, start: int, history: int, case: Case) -> tuple[int, int]:
    position, time = case.tables
    gap = 0
    if time is not None:
        times = case.options["time"][start:]
        gap = bits(int(times[query, 1] - times[key, 0]), time)
    return (0 if position is None else bits(min(query, history) - key, position)), gap


def test_almost_every_tile_of_a_long_steady_history_is_uniform_or_stepped() -> None:
    length = 2048
    time = torch.arange(0, 3600 * length, 3600, dtype=torch.int32, device=DEVICE)
    tables = [torch.zeros(1, 32, device=DEVICE)] * 2
    query = torch.zeros(length, 1, 32, device=DEVICE)
    offsets = torch.tensor([0, length], device=DEVICE)
    extras = Extras(None, torch.stack([time, time + 3600], 1), *tables)
    plan = plan_attention(
        query, offsets, AttentionRules("silu", 1.0), length, extras, implementation="triton"
    ).parts
    assert isinstance(plan, TilePlan)
    for lists in (plan.by_query, plan.by_key):
        uniform, stepped, mixed = lists.counts.sum(0).tolist()
        assert uniform > stepped > mixed > 0


@pytest.mark.parametrize("implementation", ["reference", "triton"])
def test_a_plan_serves_all_layers(implementation: str) -> None:
    case = Case.make(DEVICE, "softmax", **RULES["candidates, both tables"])
    rules = AttentionRules("softmax", 32**-0.5)
    extras = Extras(case.options["num_candidates"], case.options["time"], *case.tables)
    plan = plan_attention(
        case.fused[:, 0],
        case.offsets,
        rules,
        case.options["max_length"],
        extras,
        implementation=implementation,
    )
    assert torch.equal(case.run(implementation, plan=plan)[0], case.run(implementation)[0])
