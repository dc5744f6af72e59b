"""decode_attention and append: both implementations against float64, in the interpreter or on a GPU."""

from typing import Any

import pytest
import torch
from _paged import filled, gathered, new_rows, random, seconds
from conftest import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.decode_attention import launcher
from footfall_kernels.decode_attention.decode_attention import _decode, append, decode_attention
from footfall_kernels.decode_attention.paged_cache import PagedCache
from footfall_kernels.decode_attention.reference import decode

pytestmark = pytest.mark.kernels

IMPLEMENTATIONS = ("reference", "triton")
TOLERANCE = {torch.float32: 5e-6, torch.float16: 3e-3, torch.bfloat16: 2e-2}
"""Relative to the largest entry: roundings of the weights and of the output (truncations in the interpreter)."""
SCALE, NORMALISER = 0.3, 7.0
TABLES = ("position_bias", "time_bias")


def biases(cache: PagedCache, rows: int, *, one_time: bool, num: int = 9) -> dict[str, Any]:
    heads, batch = cache.k.shape[2], len(cache.lengths)
    return {
        "position_bias": random(heads, 5),
        "time_bias": random(heads, num),
        "time": seconds(*((batch, 1) if one_time else (batch, rows, 2)), low=10**6 - 1000, high=2 * 10**6),
    }


def check(cache: PagedCache, rows: int, implementation: str, kind: str, causal: bool, **bias: Tensor) -> None:
    q, k, v = new_rows(cache, rows)
    got = decode_attention(
        q, k, v, cache, implementation=implementation, kind=kind, causal=causal, scale=SCALE,
        normaliser=NORMALISER, **bias,
    )  # fmt: skip
    position_bias, time_bias = (bias[name].double() if name in bias else None for name in TABLES)
    want = decode(
        q.double(), k.double(), v.double(), (cache.k.double(), cache.v.double(), cache.time), cache.page_table,
        cache.lengths, bias.get("time"), position_bias, time_bias, kind, causal, SCALE, NORMALISER,
    )  # fmt: skip
    assert got.dtype == q.dtype and got.shape == q.shape
    bound = TOLERANCE[q.dtype] * max(1.0, float(want.abs().max()))
    # A GPU's silu is by tanh.approx: 2^-11 of every score.
    assert float((got.double() - want).abs().max()) <= bound + (1e-2 if DEVICE == "cuda" else 0.0)


@pytest.mark.parametrize("kind", ["silu", "softmax"])
@pytest.mark.parametrize("causal", [False, True])
def test_the_reference_is_the_formula_pair_by_pair(kind: str, causal: bool) -> None:
    lengths, rows = (0, 3), 3
    cache = filled(lengths, heads=1)
    q, k, v = new_rows(cache, rows)
    tables = biases(cache, rows, one_time=False)
    got = decode_attention(
        q, k, v, cache, implementation="reference", kind=kind, causal=causal, scale=SCALE, normaliser=NORMALISER,
        **tables,
    )  # fmt: skip

    def score(sequence: int, row: int, key: Tensor, position: int, second: int) -> float:
        apart = (
            lengths[sequence] + (row if causal else 0) - position,
            int(tables["time"][sequence, row, 1]) - second,
        )
        return SCALE * float(q[sequence, row, 0] @ key) + sum(
            float(tables[name][0, min(max(distance, 0).bit_length(), tables[name].shape[1] - 1)])
            for name, distance in zip(TABLES, apart, strict=True)
        )

    for sequence, length in enumerate(lengths):
        old_k, old_v, old_time = gathered(cache, sequence)
        for row in range(rows):
            seen = range(row + 1) if causal else (row,)
            keys = [(old_k[i, 0], i, int(old_time[i])) for i in range(length)]
            keys += [
                (k[sequence, i, 0], length + i if causal else length, int(tables["time"][sequence, i, 0]))
                for i in seen
            ]
            scores = torch.tensor([score(sequence, row, *key) for key in keys], device=DEVICE)
            weights = scores.softmax(0) if kind == "softmax" else scores * scores.sigmoid() / NORMALISER
            values = torch.stack([*old_v[:, 0], *(v[sequence, i, 0] for i in seen)])
            torch.testing.assert_close(got[sequence, row, 0], weights @ values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", ["silu", "softmax"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", ["none", "one time", "time a row"])
def test_every_mode_follows_the_definition(implementation: str, kind: str, causal: bool, bias: str) -> None:
    cache = filled()
    tables = {} if bias == "none" else biases(cache, 5, one_time=bias == "one time")
    check(cache, 5, implementation, kind, causal, **tables)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("causal", [False, True])
def test_one_new_row_sees_its_history_and_itself(implementation: str, causal: bool) -> None:
    cache = filled()
    check(cache, 1, implementation, "softmax", causal, **biases(cache, 1, one_time=False))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("head_dim", [32, 64, 128])
@pytest.mark.parametrize("page", [64, 128])
def test_every_dtype_head_dim_and_page_size(dtype: torch.dtype, head_dim: int, page: int) -> None:
    cache = filled((70, 130), heads=1, head_dim=head_dim, dtype=dtype, page=page, implementation="triton")
    for kind in ("silu", "softmax"):
        check(cache, 17, "triton", kind, False, **biases(cache, 17, one_time=False))


@pytest.mark.parametrize("rows", [17, 65, 130])
@pytest.mark.parametrize("causal", [False, True])
def test_blocks_of_every_size_are_masked_at_their_end(rows: int, causal: bool) -> None:
    cache = filled((70,), heads=1, dtype=torch.float16)
    check(cache, rows, "triton", "softmax", causal, **biases(cache, rows, one_time=False))


@pytest.mark.parametrize("one", TABLES)
@pytest.mark.parametrize("causal", [False, True])
def test_one_bias_may_come_without_the_other(one: str, causal: bool) -> None:
    cache = filled()
    tables = biases(cache, 3, one_time=False)
    chosen = {name: tables[name] for name in ((one, "time") if one == "time_bias" else (one,))}
    check(cache, 3, "triton", "silu", causal, **chosen)


@pytest.mark.parametrize("num", [1, 32, 40])
def test_tables_shorter_and_longer_than_any_bucket(num: int) -> None:
    cache = filled((70, 3))
    for one_time in (False, True):
        check(cache, 2, "triton", "silu", False, **biases(cache, 2, one_time=one_time, num=num))


@pytest.mark.parametrize("multiprocessors", [1, 3, 10])
@pytest.mark.parametrize("kind", ["silu", "softmax"])
def test_any_number_of_splits_merges_to_the_same(
    multiprocessors: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_multiprocessors", lambda device: multiprocessors)
    for causal in (False, True):
        check(filled((0, 300)), 5, "triton", kind, causal)


def test_splits_fill_the_chip_and_never_outnumber_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_multiprocessors", lambda device: 132)
    split, device = launcher.split, torch.device("cpu")
    assert [split(512, 128, device), split(16, 128, device), split(1, 4, device), split(1, 0, device)] == [
        1,
        16,
        4,
        1,
    ]


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 150), min_size=1, max_size=3), st.integers(0, 20), st.booleans())
def test_any_lengths(lengths: list[int], rows: int, causal: bool) -> None:
    cache = filled(lengths, heads=1, implementation="triton")
    if rows:
        check(cache, rows, "triton", "softmax", causal)
    else:
        q, k, v = new_rows(cache, 0)
        assert (
            decode_attention(
                q, k, v, cache, implementation="triton", kind="silu", causal=causal, scale=1.0
            ).shape
            == q.shape
        )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_sequences_of_the_cache_may_be_read_in_any_order(implementation: str) -> None:
    cache = filled()
    q, k, v = new_rows(cache, 2)
    whole: dict[str, Any] = {
        "implementation": implementation,
        "kind": "softmax",
        "causal": True,
        "scale": SCALE,
    }
    want = decode_attention(q, k, v, cache, **whole)
    chosen = torch.tensor([2, 0], device=DEVICE)
    got = decode_attention(q[chosen], k[chosen], v[chosen], cache, sequences=chosen, **whole)
    torch.testing.assert_close(got, want[chosen])


def test_a_page_that_was_released_is_read_as_if_it_were_fresh() -> None:
    cache = filled((200, 3), implementation="triton")
    cache.release(0)
    cache.k[cache.free], cache.v[cache.free] = torch.nan, torch.nan
    cache.allocate(0, 5)
    append(
        cache,
        random(5, 2, 32),
        random(5, 2, 32),
        seconds(5),
        implementation="triton",
        sequences=[0],
        offsets=[0, 5],
    )
    for kind in ("silu", "softmax"):
        check(cache, 3, "triton", kind, False)


def test_nothing_around_a_buffer_is_read_and_poisoned_memory_never_reaches_a_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = filled()
    q, k, v = new_rows(cache, 5)
    walls = [torch.full_like(q, torch.nan).repeat(3, 1, 1, 1) for _ in range(3)]
    inner = [wall[4:8].copy_(rows) for wall, rows in zip(walls, (q, k, v), strict=True)]
    new_empty = Tensor.new_empty

    def poisoned(self: Tensor, *size: Any, **options: Any) -> Tensor:
        empty = new_empty(self, *size, **options)
        return empty.fill_(torch.nan) if empty.dtype.is_floating_point else empty

    for kind in ("silu", "softmax"):
        options: dict[str, Any] = {
            "kind": kind,
            "causal": True,
            "scale": SCALE,
            **biases(cache, 5, one_time=True),
        }
        want = decode_attention(q, k, v, cache, implementation="reference", **options)
        with monkeypatch.context() as patch:
            patch.setattr(Tensor, "new_empty", poisoned)
            got = decode_attention(inner[0], inner[1], inner[2], cache, implementation="triton", **options)
        torch.testing.assert_close(got, want, atol=2e-3, rtol=1e-4)
    assert all(wall[:4].isnan().all() and wall[8:].isnan().all() for wall in walls)


def test_views_of_a_fused_projection_are_read_by_their_strides() -> None:
    cache = filled()
    fused = random(4, 5, 3, 2, 32)
    q, k, v = fused.unbind(2)
    options: dict[str, Any] = {"kind": "softmax", "causal": True, "scale": SCALE}
    got = decode_attention(q, k, v, cache, implementation="triton", **options)
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    want = decode_attention(q, k, v, cache, implementation="reference", **options)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_op_is_one_that_compilers_can_take(implementation: str) -> None:
    cache = filled((3, 70))
    tables = biases(cache, 2, one_time=True)
    pools = (cache.k, cache.v, cache.time, cache.page_table, cache.lengths)
    bias = (tables["time"], tables["position_bias"], tables["time_bias"])
    torch.library.opcheck(
        _decode, (*new_rows(cache, 2), *pools, *bias, "silu", False, SCALE, 2.0, implementation)
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_it_compiles_as_one_graph(implementation: str) -> None:
    cache = filled((3, 70))
    rows = new_rows(cache, 2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return decode_attention(
            q, k, v, cache, implementation=implementation, kind="silu", causal=False, scale=SCALE
        ).sin()

    got = torch.compile(attend, fullgraph=True, backend="eager")(*rows)
    assert torch.equal(got, attend(*rows))


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    cache = filled((3, 70))
    q, k, v = new_rows(cache, 2)
    usual: dict[str, Any] = {"implementation": "triton", "kind": "silu", "causal": False, "scale": 1.0}

    def refused(sentence: str, rows: tuple[Tensor, Tensor, Tensor] = (q, k, v), **changed: Any) -> None:
        with pytest.raises(InputError, match=sentence):
            decode_attention(*rows, cache, **{**usual, **changed})

    table, one = random(2, 4), seconds(2, 1)
    refused(r"unknown kind 'relu'; there are softmax, silu", kind="relu")
    refused(r"unknown implementation 'cuda'; there are", implementation="cuda")
    refused(r"q has shape \[2, 2, 1, 32\], expected \[any, any, 2, 32\]", (q[:, :, :1], k, v))
    refused(r"k_new has shape \[2, 1, 2, 32\], expected \[2, 2, 2, 32\]", (q, k[:, :1], v))
    refused(r"v_new is float16, expected float32", (q, k, v.half()))
    refused(r"v_new is on meta, the other tensors on", (q, k, v.to("meta")))
    refused(r"scale is 0.0, it must be above 0", scale=0.0)
    refused(r"normaliser is -1.0, it must be above 0", normaliser=-1.0)
    refused(r"time_bias has no buckets", time_bias=table[:, :0], time=one)
    refused(r"position_bias has shape \[1, 4\], expected \[2, any\]", position_bias=table[:1])
    refused(r"time and time_bias belong together", time=one)
    refused(r"time and time_bias belong together", time_bias=table)
    refused(r"time has shape \[2, 3\], expected \[2, 1\]", time=seconds(2, 3), time_bias=table)
    refused(r"time has shape \[2, 3, 2\], expected \[2, 2, 2\]", time=seconds(2, 3, 2), time_bias=table)
    refused(r"time is int64, expected int32", time=one.long(), time_bias=table)
    refused(r"sequences has shape \[1\], expected \[2\]", sequences=torch.tensor([0], device=DEVICE))
    refused(r"q has 1 sequences, the cache 2; say which by `sequences`", (q[:1], k[:1], v[:1]))
