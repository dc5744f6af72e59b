"""Packed attention against a slow definition, in float64, event by event; by the interpreter, or on a GPU."""

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from conftest import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels import attention_configurations
from footfall_kernels.attention import attention, plan_tiles
from footfall_kernels.attention_reference import Extras
from footfall_kernels.attention_rules import NO_WINDOW, AttentionRules, Kind
from footfall_kernels.launch import architecture

pytestmark = pytest.mark.kernels

HEADS = 2
LENGTHS = (70, 0, 1, 37)
CANDIDATES = (20, 0, 0, 3)
# Of the largest output or gradient. fp32: sums in another order. fp16, bf16: three roundings of 2^-11 and 2^-8; the
# interpreter truncates where a GPU rounds.
TOLERANCE = {torch.float32: 3e-6, torch.float16: 3e-3, torch.bfloat16: 3e-2}
RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "candidates, both tables": {"candidates": True, "position": True, "time": True},
    "window, prefix, position table": {"window": 24, "prefix": 5, "position": True},
    "window, prefix, candidates, time table": {"window": 24, "prefix": 5, "candidates": True, "time": True},
}


@dataclasses.dataclass
class Case:
    """One batch; `fused` [total, 3, heads, head_dim] holds query, key and value side by side."""

    fused: Tensor
    offsets: Tensor
    kind: Kind
    options: dict[str, Any]
    tables: list[Tensor | None]
    gradient: Tensor

    @classmethod
    def make(
        cls,
        device: str,
        kind: Kind,
        dtype: torch.dtype = torch.float32,
        lengths: tuple[int, ...] = LENGTHS,
        head_dim: int = 32,
        candidates: bool = False,
        position: bool = False,
        time: bool = False,
        **options: Any,
    ) -> "Case":
        random = torch.Generator().manual_seed(0)
        total = sum(lengths)
        offsets = torch.tensor([0, *itertools.accumulate(lengths)])
        fused = torch.randn(total, 3, HEADS, head_dim, generator=random)
        gaps = torch.randint(0, 900, (total,), generator=random)
        options["max_length"] = max(lengths)
        if kind == "silu":
            options["normaliser"] = 50.0
        if candidates:
            options["num_candidates"] = torch.tensor(CANDIDATES, device=device)
        if time:
            options["time"] = gaps.cumsum(0).to(device, torch.int32)
        tables = [
            torch.randn(HEADS, buckets, generator=random).to(device) if wanted else None
            for wanted, buckets in ((position, 6), (time, 14))
        ]
        gradient = torch.randn(total, HEADS, head_dim, generator=random)
        return cls(
            fused.to(device, dtype), offsets.to(device), kind, options, tables, gradient.to(device, dtype)
        )

    def run(self, implementation: str, **changes: Any) -> list[Tensor]:
        """Output, gradient of `fused`, gradients of the tables there are."""
        leaves = [
            tensor.clone().requires_grad_() for tensor in (self.fused, *self.tables) if tensor is not None
        ]
        tables = iter(leaves[1:])
        position, time = (None if table is None else next(tables) for table in self.tables)
        output = attention(
            *_three(leaves[0]),
            self.offsets,
            implementation=implementation,
            kind=self.kind,
            position_bias=position,
            time_bias=time,
            **(self.options | changes),
        )
        return [output.detach(), *torch.autograd.grad(output, leaves, self.gradient)]

    def define(self) -> list[Tensor]:
        """The same by the slow definition, in float64 on the CPU."""
        leaves = [
            tensor.double().cpu().requires_grad_()
            for tensor in (self.fused, *self.tables)
            if tensor is not None
        ]
        tables = iter(leaves[1:])
        position, time = (None if table is None else next(tables) for table in self.tables)
        parts = [
            define_sequence(leaves[0][start:end], start, sequence, self, position, time)
            for sequence, (start, end) in enumerate(itertools.pairwise(self.offsets.tolist()))
        ]
        output = torch.cat(parts)
        return [output.detach(), *torch.autograd.grad(output, leaves, self.gradient.double().cpu())]


def define_sequence(
    fused: Tensor, start: int, sequence: int, case: Case, position: Tensor | None, time: Tensor | None
) -> Tensor:
    """One sequence: scores pair by pair, as AttentionRules and the docstring of `attention` put it in words."""
    length, _, heads, head_dim = fused.shape
    options = case.options
    history = length - int(options["num_candidates"][sequence]) if "num_candidates" in options else length
    query, key, value = fused.unbind(1)
    output = []
    for row in range(length):
        place = min(row, history)
        near = [
            column for column in range(min(place + 1, history)) if _is_near(place - column, column, options)
        ]
        seen = near if row in near else [*near, row]
        score = torch.einsum("hd,nhd->hn", query[row], key[seen]) * head_dim**-0.5
        if position is not None:
            score = score + torch.stack([position[:, bits(place - column, position)] for column in seen], 1)
        if time is not None:
            gaps = [int(options["time"][start + row] - options["time"][start + column]) for column in seen]
            score = score + torch.stack([time[:, bits(gap, time)] for gap in gaps], 1)
        weight = (
            score.softmax(1) if case.kind == "softmax" else score * score.sigmoid() / options["normaliser"]
        )
        output.append(torch.einsum("hn,nhd->hd", weight, value[seen]))
    return torch.stack(output) if output else query.new_zeros(0, heads, head_dim)


def _is_near(distance: int, column: int, options: dict[str, Any]) -> bool:
    return distance < int(options.get("window", NO_WINDOW)) or column < int(options.get("prefix", 0))


def _three(fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = fused.unbind(1)
    return query, key, value


def bits(distance: int, table: Tensor) -> int:
    return min(max(distance, 0).bit_length(), table.shape[1] - 1)


def assert_close(got: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one.double().cpu() - other).abs().max() <= TOLERANCE[dtype] * other.abs().max()


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_the_kernels_compute_the_definition_and_its_gradients(
    kind: Kind, rules: str, dtype: torch.dtype
) -> None:
    case = Case.make(DEVICE, kind, dtype, **RULES[rules])
    assert_close(case.run("triton"), case.define(), dtype)


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("rules", RULES)
def test_the_reference_computes_the_definition_and_its_gradients(kind: Kind, rules: str) -> None:
    case = Case.make("cpu", kind, **RULES[rules])
    assert_close(case.run("reference"), case.define(), torch.float32)


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_wider_heads_too(kind: Kind, head_dim: int) -> None:
    case = Case.make(DEVICE, kind, lengths=(40, 5), head_dim=head_dim, position=True)
    assert_close(case.run("triton"), case.define(), torch.float32)


@pytest.mark.parametrize("kind", ["softmax", "silu"])
def test_chips_without_tensor_memory_access_load_by_pointers(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("forward_configuration", "backward_configuration"):
        configured = getattr(attention_configurations, name)
        monkeypatch.setattr(
            f"footfall_kernels.attention_triton.{name}",
            lambda *arguments, configured=configured: dataclasses.replace(configured(*arguments), tma=False),
        )
    case = Case.make(DEVICE, kind, **RULES["candidates, both tables"])
    assert_close(case.run("triton"), case.define(), torch.float32)


@pytest.mark.parametrize("kind", ["softmax", "silu"])
def test_deterministic_gradients_are_the_same_bits_each_time(kind: Kind) -> None:
    case = Case.make(DEVICE, kind, **RULES["candidates, both tables"])
    first, second = (case.run("triton", deterministic=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert_close(first, case.define(), torch.float32)


def test_heads_may_interleave_query_key_and_value() -> None:
    case = Case.make(DEVICE, "softmax", position=True)
    interleaved = case.fused.transpose(1, 2).contiguous().transpose(1, 2)  # head stride 3 * head_dim
    assert interleaved.stride() != case.fused.stride()
    expected = case.run("triton")
    case.fused = interleaved
    output = attention(
        *_three(interleaved),
        case.offsets,
        implementation="triton",
        kind="softmax",
        position_bias=case.tables[0],
        **case.options,
    )
    assert torch.equal(output, expected[0])


@pytest.mark.parametrize("kind", ["softmax", "silu"])
def test_what_surrounds_a_sequence_never_reaches_it(kind: Kind) -> None:
    """Canaries: the second of three sequences, and all rows before and behind the batch, are NaN."""
    lengths, edge = (37, 50, 21), 40
    case = Case.make(DEVICE, kind, lengths=lengths, time=True)
    clean = case.run("triton")
    surrounded = case.fused.new_full((edge + sum(lengths) + edge, *case.fused.shape[1:]), torch.nan)
    inside = surrounded[edge:-edge]
    inside.copy_(case.fused)
    inside[37:87] = torch.nan
    case.fused = inside
    spoilt = case.run("triton")
    for one, other in zip(spoilt[:2], clean[:2], strict=True):
        assert torch.equal(one[:37], other[:37])
        assert torch.equal(one[87:], other[87:])
        assert one[37:87].isnan().any()


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(0, 45), min_size=1, max_size=4).filter(any),
    kind=st.sampled_from(["softmax", "silu"]),
)
def test_any_lengths(lengths: list[int], kind: Kind) -> None:
    case = Case.make(DEVICE, kind, lengths=tuple(lengths), position=True, time=True)
    assert_close(case.run("triton"), case.define(), torch.float32)


def test_an_empty_batch_is_no_launch() -> None:
    case = Case.make(DEVICE, "softmax", lengths=(0, 0), position=True)
    output, gradient, table = case.run("triton")
    assert output.shape == (0, HEADS, 32)
    assert gradient.numel() == 0
    assert not table.any()


@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("rules", RULES)
def test_a_plan_holds_every_tile_with_a_visible_pair_once_in_its_class(rules: str, by_key: bool) -> None:
    case = Case.make(DEVICE, "silu", **RULES[rules])
    options, kept = dict(case.options), AttentionRules("silu", 1.0, window=NO_WINDOW)
    kept = dataclasses.replace(kept, window=options.get("window", NO_WINDOW), prefix=options.get("prefix", 0))
    extras = Extras(options.get("num_candidates"), options.get("time"), *case.tables)
    plan = plan_tiles(case.fused[:, 0], case.offsets, kept, max(LENGTHS), extras)
    lists = plan.by_key if by_key else plan.by_query
    arch = architecture(case.fused.device)
    configure = (
        attention_configurations.backward_configuration
        if by_key
        else attention_configurations.forward_configuration
    )
    shape = configure(arch, 32, torch.float32)
    rows, columns = (shape.keys, shape.queries) if by_key else (shape.queries, shape.keys)
    seen = set()
    for block, counts, tiles in zip(
        lists.blocks.tolist(), lists.counts.tolist(), lists.tiles.tolist(), strict=True
    ):
        start, length, history, first = block
        uniform, mixed, _ = counts
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
            if at < uniform + mixed:
                real = [
                    one for one, (query, _) in zip(visible, cells, strict=True) if query < length or by_key
                ]
                assert all(real)
            if at < uniform:
                buckets = {
                    _buckets(query, key, start, history, case) for query, key in cells if query < length
                }
                assert buckets == {((entry >> 12) & 0x3F, entry >> 18)}
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
    return key == query or (key < history and key <= place and _is_near(place - key, key, options))


def _buckets(query: int, key: int, start: int, history: int, case: Case) -> tuple[int, int]:
    position, time = case.tables
    gap = 0
    if time is not None:
        gap = bits(int(case.options["time"][start + query] - case.options["time"][start + key]), time)
    return (0 if position is None else bits(min(query, history) - key, position)), gap


def test_a_plan_serves_all_layers() -> None:
    case = Case.make(DEVICE, "softmax", **RULES["candidates, both tables"])
    rules = AttentionRules("softmax", 32**-0.5)
    extras = Extras(case.options["num_candidates"], case.options["time"], *case.tables)
    plan = plan_tiles(case.fused[:, 0], case.offsets, rules, case.options["max_length"], extras)
    assert torch.equal(case.run("triton", plan=plan)[0], case.run("triton")[0])


def test_the_op_passes_through_compile_and_torchs_own_checks() -> None:
    case = Case.make(DEVICE, "softmax", lengths=(20, 3), position=True)
    query, key, value = case.fused.unbind(1)
    extras = Extras(position_bias=case.tables[0])
    plan = plan_tiles(query, case.offsets, AttentionRules("softmax", 32**-0.5), 20, extras)

    def layer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attention(
            query, key, value, case.offsets, implementation="triton", kind="softmax", max_length=20,
            position_bias=case.tables[0], plan=plan,
        )  # fmt: skip

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(query, key, value), layer(query, key, value))
    arguments = (
        query.clone().requires_grad_(), key, value, None, None, case.tables[0], None,
        [*vars(plan.by_query).values(), *vars(plan.by_key).values()], "softmax", 0.2, 1.0, NO_WINDOW, 0, False,
    )  # fmt: skip
    torch.library.opcheck(torch.ops.footfall.attention.default, arguments)


BAD: dict[str, dict[str, Any]] = {
    "unknown implementation 'cuda'": {"implementation": "cuda"},
    "unknown kind 'relu'": {"kind": "relu"},
    "scale is 0.0, it must be a finite number above 0": {"scale": 0.0},
    "normaliser is 2.0, but softmax": {"normaliser": 2.0},
    "window is 0 and prefix 0": {"window": 0},
    "sequence 0 has 20 events, max_length is 19": {"max_length": 19},
    "max_length is 200000, it must be in 0..131072": {"max_length": 200_000},
    "offsets do not ascend: 20 at place 1 is followed by 15": {"offsets": torch.tensor([0, 20, 15])},
    "offsets end at 22, the packed tensors have 23 rows": {"offsets": torch.tensor([0, 20, 22])},
    r"offsets start with \[1\]": {"offsets": torch.tensor([1, 20, 23])},
    r"offsets has shape \[1, 3\]": {"offsets": torch.tensor([[0, 20, 23]])},
    "offsets is float32": {"offsets": torch.tensor([0.0, 20.0, 23.0])},
    "head_dim is 48": {"query": torch.zeros(23, 2, 48), "key": torch.zeros(23, 2, 48)},
    r"key has shape \[23, 2, 64\], expected \[23, 2, 32\]": {"key": torch.zeros(23, 2, 64)},
    "value is float16, expected float32": {"value": torch.zeros(23, 2, 32, dtype=torch.float16)},
    "query is int64": {"query": torch.zeros(23, 2, 32, dtype=torch.int64)},
    "key is on meta, the other tensors on cpu": {"key": torch.zeros(23, 2, 32, device="meta")},
    "query has stride 2 along head_dim": {"query": torch.zeros(23, 2, 64)[:, :, ::2]},
    "value has rows of stride 65": {
        "value": torch.zeros(23, 65).as_strided((23, 2, 32), (65, 32, 1)),
        "implementation": "triton",
    },
    "time_bias is given without time": {"time_bias": torch.zeros(2, 8)},
    "position_bias has 65 buckets": {"position_bias": torch.zeros(2, 65)},
    r"num_candidates has shape \[3\]": {"num_candidates": torch.tensor([1, 2, 3])},
    "num_candidates of sequence 1 is 4, more than its 3 events": {"num_candidates": torch.tensor([0, 4])},
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_is_wrong_is_said_before_any_launch(sentence: str) -> None:
    good: dict[str, Any] = {
        "query": torch.zeros(23, 2, 32), "key": torch.zeros(23, 2, 32), "value": torch.zeros(23, 2, 32),
        "offsets": torch.tensor([0, 20, 23]), "implementation": "reference", "kind": "softmax", "max_length": 20,
    }  # fmt: skip
    with pytest.raises(InputError, match=sentence):
        attention(**(good | BAD[sentence]))
