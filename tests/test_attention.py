"""Packed attention against a slow definition, in float64, event by event; by the interpreter, or on a GPU."""

import dataclasses
from typing import Any

import pytest
import torch
from attention_case import HEADS, RULES, TOLERANCE, Case, assert_close, three
from conftest import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.errors import InputError
from footfall_kernels.attention import configurations as attention_configurations
from footfall_kernels.attention import dense as attention_dense
from footfall_kernels.attention import groups as attention_groups
from footfall_kernels.attention.attention import attention
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.plan import plan_attention
from footfall_kernels.attention.rules import AttentionRules, Kind

pytestmark = pytest.mark.kernels


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


@pytest.mark.parametrize("first", [-(2**31), 0])
def test_times_may_lie_as_far_apart_as_int32_allows(first: int) -> None:
    case = Case.make(DEVICE, "silu", lengths=(128,), position=True, time=True)
    time = (first + torch.linspace(0, 2**31 - 1, 128, dtype=torch.float64).long()).to(DEVICE, torch.int32)
    case.options["time"] = torch.stack([time, torch.cat([time[1:], time[-1:]])], 1)
    case.tables[1] = torch.randn(HEADS, 40, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    assert_close(case.run("triton"), case.define(), torch.float32)


@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("rules", ["plain", "candidates, both tables"])
def test_queries_and_keys_of_fp8_are_read_as_they_were_rounded(
    kind: Kind, rules: str, implementation: str
) -> None:
    case = Case.make(DEVICE, kind, torch.bfloat16, **RULES[rules])
    query, key, value = three(case.fused)
    narrow_query, narrow_key = (tensor.to(torch.float8_e4m3fn) for tensor in (query, key))
    case.fused[:, 0], case.fused[:, 1] = narrow_query.to(torch.bfloat16), narrow_key.to(torch.bfloat16)
    position, time = case.tables
    output = attention(
        narrow_query, narrow_key, value, case.offsets, implementation=implementation, kind=kind,
        position_bias=position, time_bias=time, **case.options,
    )  # fmt: skip
    assert output.dtype == torch.bfloat16
    assert_close([output], case.define()[:1], torch.bfloat16)


def test_fp8_is_refused_where_a_gradient_is_asked_for() -> None:
    case = Case.make("cpu", "silu", torch.bfloat16)
    query, key, value = three(case.fused.requires_grad_())
    with pytest.raises(InputError, match="is for inference, and a gradient is asked for"):
        attention(
            query.detach().to(torch.float8_e4m3fn), key.detach().to(torch.float8_e4m3fn), value, case.offsets,
            implementation="reference", kind="silu", **case.options,
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["softmax", "silu"])
def test_chips_without_tensor_memory_access_load_by_pointers(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("forward_configuration", "backward_configuration"):
        configured = getattr(attention_configurations, name)
        monkeypatch.setattr(
            f"footfall_kernels.attention.launcher.{name}",
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


def test_wide_heads_of_older_chips_get_query_gradients_by_a_second_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("footfall_kernels.attention.launcher.adds_query_gradients", lambda *_: False)
    case = Case.make(DEVICE, "silu", **RULES["candidates, both tables"])
    assert_close(case.run("triton"), case.define(), torch.float32)


def test_heads_may_interleave_query_key_and_value() -> None:
    case = Case.make(DEVICE, "softmax", position=True)
    interleaved = case.fused.transpose(1, 2).contiguous().transpose(1, 2)  # head stride 3 * head_dim
    assert interleaved.stride() != case.fused.stride()
    expected = case.run("triton")
    case.fused = interleaved
    output = attention(
        *three(interleaved),
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
    "head_dim is 48": {
        "query": torch.zeros(23, 2, 48),
        "key": torch.zeros(23, 2, 48),
        "implementation": "triton",
    },
    "head_dim is 0, it must be at least 1": {"query": torch.zeros(23, 2, 0)},
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


def test_a_plan_of_another_implementation_batch_or_mask_is_refused() -> None:
    query, offsets = torch.zeros(23, 2, 32), torch.tensor([0, 20, 23])
    rules, extras = AttentionRules("softmax", 1.0, window=7), Extras(position_bias=torch.zeros(2, 8))
    plans = {
        name: plan_attention(query, offsets, rules, 20, extras, implementation=name)
        for name in ("reference", "triton")
    }
    options: dict[str, Any] = {
        "kind": "softmax", "max_length": 20, "window": 7, "position_bias": torch.zeros(2, 8),
    }  # fmt: skip
    for sentence, plan, changes in (
        ("the plan is of implementation 'triton', the call of 'reference'", plans["triton"], {}),
        ("of 'triton'", plans["reference"], {"implementation": "triton"}),
        ("window 7, the call has 8", plans["reference"], {"window": 8}),
        ("prefix 0, the call has 1", plans["triton"], {"prefix": 1, "implementation": "triton"}),
        (r"buckets \(8, 0\), the call has \(0, 0\)", plans["reference"], {"position_bias": None}),
    ):
        with pytest.raises(InputError, match=sentence):
            attention(
                query, query, query, offsets, plan=plan,
                **({"implementation": "reference"} | options | changes),
            )  # fmt: skip
    with pytest.raises(InputError, match="made for events 23, the call has 22"):
        attention(
            query[:22], query[:22], query[:22], offsets, implementation="reference", plan=plans["reference"],
            **options,
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("rules", RULES)
def test_the_reference_takes_any_head_dim_and_groups_that_are_too_long_to_hold(
    kind: Kind, rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case.make("cpu", kind, head_dim=5, **RULES[rules])
    monkeypatch.setattr(attention_groups, "HELD_PAIRS", 40 * 40)
    monkeypatch.setattr(attention_groups, "GROUP_PAIRS", 1)
    monkeypatch.setattr(attention_dense, "CHUNK_SCORES", 1)
    assert_close(case.run("reference"), case.define(), torch.float32)
