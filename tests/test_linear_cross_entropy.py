"""linear_cross_entropy: the loss and its gradients, by both implementations, against torch in fp64."""

from collections.abc import Iterator

import pytest
import torch
from conftest import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from footfall.errors import InputError
from footfall_kernels.linear_cross_entropy import launcher
from footfall_kernels.linear_cross_entropy.linear_cross_entropy import linear_cross_entropy
from footfall_kernels.linear_cross_entropy.reference import linear_cross_entropy_reference

pytestmark = pytest.mark.kernels

TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Of the largest element. bf16: 2^-7 each for weights and results, which the interpreter truncates."""
FULL, SAMPLED, CORRECTED = "full", "sampled", "corrected"
Case = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]


@pytest.fixture(autouse=True, scope="module")
def _few_splits() -> Iterator[None]:
    """The interpreter runs programs one after another: two or three splits of a loop show what 500 would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "PROGRAMS", 8)
        yield


def case(tokens: int, items: int, width: int, dtype: torch.dtype, mode: str, samples: int = 37) -> Case:
    random = torch.Generator().manual_seed(tokens * items + width)
    hidden = torch.randn(tokens, width, generator=random).to(DEVICE, dtype)
    table = (torch.randn(items + 1, width, generator=random) / width**0.5 * 2).to(DEVICE, dtype)
    table[0] = torch.nan
    target = torch.randint(1, items + 1, (tokens,), generator=random).to(DEVICE)
    negative = torch.randint(1, items + 1, (samples,), generator=random).to(DEVICE)
    log_q = torch.randn(items + 1, generator=random).to(DEVICE)
    return hidden, table, target, None if mode == FULL else negative, log_q if mode == CORRECTED else None


def plain(
    hidden: Tensor, table: Tensor, target: Tensor, negative: Tensor | None, log_q: Tensor | None
) -> Tensor:
    """The whole matrix of logits, as the papers write it."""
    if negative is None:
        return functional.cross_entropy(hidden @ table[1:].T, target - 1)
    positive = (hidden * table[target]).sum(dim=1, keepdim=True)
    others = hidden @ table[negative].T
    if log_q is not None:
        others = others - log_q[negative]
    others = others.masked_fill(negative == target.unsqueeze(1), -torch.inf)
    return functional.cross_entropy(torch.cat([positive, others], 1), torch.zeros_like(target))


def expected(inputs: Case) -> tuple[Tensor, Tensor, Tensor]:
    hidden, table, target, negative, log_q = inputs
    hidden, table = hidden.double().requires_grad_(), table.double().requires_grad_()
    loss = plain(hidden, table, target, negative, None if log_q is None else log_q.double())
    by_hidden, by_table = torch.autograd.grad(loss, (hidden, table))
    return loss.detach(), by_hidden, by_table


def computed(inputs: Case, implementation: str) -> tuple[Tensor, Tensor, Tensor]:
    hidden, table, target, negative, log_q = inputs
    hidden, table = hidden.detach().requires_grad_(), table.detach().requires_grad_()
    loss = linear_cross_entropy(
        hidden, table, target, implementation=implementation, negative=negative, log_q=log_q
    )
    by_hidden, by_table = torch.autograd.grad(loss, (hidden, table))
    return loss.detach(), by_hidden, by_table


def assert_close(inputs: Case, implementation: str) -> None:
    dtype = inputs[0].dtype
    for got, want in zip(computed(inputs, implementation), expected(inputs), strict=True):
        assert got.isfinite().all()
        largest = want.abs().max().item()
        torch.testing.assert_close(got.double(), want, rtol=0, atol=TOLERANCE[dtype] * max(largest, 1e-12))


@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize("mode", [FULL, SAMPLED, CORRECTED])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_loss_and_gradients_agree_with_torch_in_fp64(
    dtype: torch.dtype, mode: str, implementation: str
) -> None:
    assert_close(case(150, 211, 64, dtype, mode), implementation)


@pytest.mark.parametrize("mode", [FULL, CORRECTED])
@pytest.mark.parametrize("width", [1, 24, 32, 100, 128, 200, 256])
def test_any_width_up_to_256_goes_through_the_kernels(width: int, mode: str) -> None:
    assert_close(case(33, 70, width, torch.float16, mode), "triton")


@pytest.mark.parametrize("tokens,items", [(1, 1), (1, 300), (300, 1), (2, 64), (128, 65), (129, 128)])
@pytest.mark.parametrize("mode", [FULL, SAMPLED])
def test_one_token_one_item_and_the_edges_of_blocks(tokens: int, items: int, mode: str) -> None:
    inputs = case(tokens, items, 32, torch.float32, mode)
    for implementation in ("reference", "triton"):
        loss, by_hidden, by_table = computed(inputs, implementation)
        for got, want in zip((loss, by_hidden, by_table), expected(inputs), strict=True):
            torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(1, 140), st.integers(1, 200), st.integers(1, 80), st.integers(1, 140))
def test_odd_shapes_agree_with_torch_in_fp64(tokens: int, items: int, width: int, samples: int) -> None:
    for mode in (FULL, CORRECTED):
        inputs = case(tokens, items, width, torch.float32, mode, samples)
        for got, want in zip(computed(inputs, "triton"), expected(inputs), strict=True):
            torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=2e-6)


def test_the_result_does_not_depend_on_how_loops_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = case(150, 200, 64, torch.float16, FULL)
    split = computed(inputs, "triton")
    monkeypatch.setattr(launcher, "PROGRAMS", 1)
    for got, want in zip(computed(inputs, "triton"), split, strict=True):
        torch.testing.assert_close(got, want, rtol=2e-3, atol=1e-5)


def test_probabilities_that_fp16_cannot_hold_still_reach_the_gradient() -> None:
    """Every item but the target has a probability of 2^-20, of which fp16 keeps four bits."""
    hidden = torch.ones(3, 16, dtype=torch.float16, device=DEVICE)
    table = torch.zeros(201, 16, dtype=torch.float16, device=DEVICE)
    target = torch.full((3,), 7, device=DEVICE)
    table[target] = 14 / 16
    leaves = hidden.requires_grad_(), table.requires_grad_()
    loss = linear_cross_entropy(*leaves, target, implementation="triton")
    _, by_table = torch.autograd.grad(loss * 2.0**14, leaves)
    want = expected((hidden, table, target, None, None))[2]
    torch.testing.assert_close(by_table.double() / 2**14, want, rtol=2e-3, atol=0)


def test_very_large_logits_stay_finite() -> None:
    hidden, table, target, negative, log_q = case(20, 90, 32, torch.float32, CORRECTED)
    for sampled in (None, negative):
        inputs = (hidden * 30, table * 10, target, sampled, None if sampled is None else log_q)
        for implementation in ("reference", "triton"):
            for got, want in zip(computed(inputs, implementation), expected(inputs), strict=True):
                largest = want.abs().max().item()
                torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-3 * largest)


@pytest.mark.parametrize("mode", [FULL, CORRECTED])
def test_nothing_is_written_outside_the_outputs_and_poison_past_the_inputs_is_never_used(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, table, target, negative, log_q = case(70, 90, 24, torch.float32, mode)
    hidden, table = _surrounded(hidden), _surrounded(table)
    fences: list[tuple[Tensor, int]] = []

    new_empty = Tensor.new_empty

    def fenced(
        like: Tensor, shape: int | tuple[int, ...], dtype: torch.dtype | None = None, **rest: object
    ) -> Tensor:
        if rest:  # the interpreter's own
            return new_empty(like, shape, dtype=dtype, **rest)  # type: ignore[call-overload, no-any-return]
        size = torch.Size((shape,) if isinstance(shape, int) else shape)
        whole = torch.full((size.numel() + 128,), torch.nan, dtype=dtype or like.dtype, device=like.device)
        fences.append((whole, size.numel()))
        return whole[64 : 64 + size.numel()].view(size)

    monkeypatch.setattr(Tensor, "new_empty", fenced)
    loss, grad_hidden, softmax = launcher.forward(hidden, table, target, negative, log_q, True)
    one = torch.tensor(1.0 / len(target), device=DEVICE)
    grad_table = launcher.table_gradient(one, hidden, table, target, negative, log_q, softmax)
    monkeypatch.undo()
    assert fences
    for whole, size in fences:
        assert whole[:64].isnan().all()
        assert whole[64 + size :].isnan().all()
    for got, want in zip(
        (loss, grad_hidden / len(target), grad_table),
        expected((hidden, table, target, negative, log_q)),
        strict=True,
    ):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)


def _surrounded(tensor: Tensor) -> Tensor:
    whole = torch.full((tensor.numel() + 4096,), torch.nan, dtype=tensor.dtype, device=tensor.device)
    inner = whole[2048 : 2048 + tensor.numel()].view(tensor.shape)
    return inner.copy_(tensor)


def test_a_strided_hidden_gives_the_same_loss() -> None:
    hidden, table, target, _, _ = case(40, 90, 32, torch.float32, FULL)
    strided = torch.cat([hidden, hidden + 1], 1)[:, :32]
    for implementation in ("reference", "triton"):
        loss = linear_cross_entropy(strided, table, target, implementation=implementation)
        torch.testing.assert_close(
            loss, linear_cross_entropy(hidden, table, target, implementation=implementation)
        )


def test_a_target_that_is_no_item_makes_the_kernels_loss_nan_and_is_refused_by_the_reference() -> None:
    hidden, table, target, _, _ = case(4, 9, 16, torch.float32, FULL)
    for wrong in (-1, 0, 10, 1 << 40):
        target[2] = wrong
        assert linear_cross_entropy(hidden, table, target, implementation="triton").isnan()
        with pytest.raises(InputError, match=f"target holds {wrong}, but items are 1 to 9"):
            linear_cross_entropy(hidden, table, target, implementation="reference")


def test_sampled_softmax_tends_to_the_full_softmax_however_unevenly_items_are_drawn() -> None:
    hidden, table, target, _, _ = case(37, 50, 8, torch.float32, FULL)
    full = linear_cross_entropy(hidden, table, target, implementation="reference")
    everything, even = torch.arange(1, 51, device=DEVICE), torch.zeros(51, device=DEVICE)
    torch.manual_seed(1)
    share = torch.rand(51, dtype=torch.float64)
    share[0] = 0
    drawn = torch.multinomial(share, 200_000, replacement=True)
    uneven = torch.log(share / share.sum() * len(drawn))
    for negative, log_q, tolerance in ((everything, even, 1e-5), (drawn.to(DEVICE), uneven.to(DEVICE), 0.02)):
        sampled = linear_cross_entropy(
            hidden, table, target, implementation="reference", negative=negative, log_q=log_q
        )
        torch.testing.assert_close(sampled, full, atol=tolerance, rtol=0)


def test_the_reference_runs_in_double() -> None:
    inputs = case(90, 50, 16, torch.float32, CORRECTED)
    hidden, table, target, negative, log_q = inputs
    got = linear_cross_entropy_reference(hidden.double(), table.double(), target, negative, log_q, True)
    for mine, want in zip(got, expected(inputs), strict=True):
        torch.testing.assert_close(mine, want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize("mode", [FULL, CORRECTED])
def test_the_op_passes_torchs_own_checks(mode: str, implementation: str) -> None:
    hidden, table, target, negative, log_q = case(9, 20, 16, torch.float32, mode)
    table = torch.nan_to_num(table)
    arguments = (
        hidden.requires_grad_(),
        table.requires_grad_(),
        target,
        negative,
        log_q,
        implementation,
        True,
    )
    torch.library.opcheck(
        torch.ops.footfall.linear_cross_entropy.default,
        arguments,
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


@pytest.mark.parametrize("implementation", ["reference", "triton"])
def test_it_compiles_without_a_graph_break(implementation: str) -> None:
    hidden, table, target, negative, log_q = case(9, 20, 16, torch.float32, CORRECTED)
    hidden.requires_grad_()

    def loss(hidden: Tensor) -> Tensor:
        return linear_cross_entropy(
            hidden * 2, table, target, implementation=implementation, negative=negative, log_q=log_q
        )

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (got,) = torch.autograd.grad(compiled(hidden), hidden)
    (want,) = torch.autograd.grad(loss(hidden), hidden)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    "change,sentence",
    [
        ({"implementation": "cuda"}, "unknown implementation 'cuda'"),
        ({"hidden": torch.zeros(3, 4, 5)}, r"hidden has shape \[3, 4, 5\], expected \[any, any\]"),
        ({"hidden": torch.zeros(3, 4, dtype=torch.float64)}, "hidden is float64, expected float32"),
        ({"hidden": torch.zeros(0, 4), "target": torch.ones(0).long()}, "hidden has no tokens"),
        ({"table": torch.zeros(9, 5)}, r"table has shape \[9, 5\], expected \[any, 4\]"),
        ({"table": torch.zeros(9, 4).half()}, "table is float16, expected float32"),
        ({"table": torch.zeros(1, 4)}, "table has 1 rows"),
        ({"target": torch.ones(2).long()}, r"target has shape \[2\], expected \[3\]"),
        ({"target": torch.ones(3).int()}, "target is int32, expected int64"),
        ({"target": torch.ones(3, device="meta").long()}, "target is on meta"),
        ({"negative": torch.ones(0).long()}, "negative is empty"),
        ({"log_q": torch.zeros(9)}, "log_q corrects sampled negatives, but there is no negative"),
        (
            {"log_q": torch.zeros(8), "negative": torch.ones(2).long()},
            r"log_q has shape \[8\], expected \[9\]",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(change: dict[str, object], sentence: str) -> None:
    arguments = {"hidden": torch.zeros(3, 4), "table": torch.zeros(9, 4), "target": torch.ones(3).long()}
    with pytest.raises(InputError, match=sentence):
        linear_cross_entropy(**{"implementation": "reference", **arguments, **change})  # type: ignore[arg-type]


def test_a_width_that_no_kernel_was_written_for_is_refused() -> None:
    hidden, table = torch.zeros(3, 300, device=DEVICE), torch.zeros(9, 300, device=DEVICE)
    with pytest.raises(InputError, match="hidden is 300 wide, implementation 'triton' takes up to 256"):
        linear_cross_entropy(hidden, table, torch.ones(3, device=DEVICE).long(), implementation="triton")
