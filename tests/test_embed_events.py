"""embed_events: both implementations against the reference in float64, in the interpreter or on a GPU."""

from typing import Any

import pytest
import torch
from conftest import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.embed_events.embed_events import _embed_events, _embed_events_backward, embed_events
from footfall_kernels.embed_events.launcher import BLOCK_EVENTS, CHUNK, SMALL, touched_rows_gradient
from footfall_kernels.embed_events.reference import embed

pytestmark = pytest.mark.kernels

IMPLEMENTATIONS = ("reference", "triton")
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
"""One rounding of the output, relative to its largest entry; bf16 is truncated by the interpreter: 2^-7."""
SCALE = 8.0


def draw(
    events: int, width: int, rows: tuple[int, ...] = (97, 5, 40, 50), dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(events * 1000 + width)
    indices = [torch.randint(count, (events,), generator=generator).to(DEVICE) for count in rows]
    tables = [torch.randn(count, width, generator=generator).to(DEVICE, dtype) for count in rows]
    return indices, [table.requires_grad_() for table in tables]


def close(got: Tensor, want: Tensor) -> bool:
    assert got.shape == want.shape
    bound = TOLERANCE[got.dtype] * max(1.0, float(want.abs().max())) if want.numel() else 0.0
    return bool(((got.double() - want).abs() <= bound).all())


def truth(indices: list[Tensor], tables: list[Tensor], weight: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Output and gradients of sum(output * weight), in float64."""
    wide = [table.detach().double().requires_grad_() for table in tables]
    output = embed(tuple(indices), tuple(wide), SCALE)
    return output.detach(), list(torch.autograd.grad(output, wide, weight.double()))


def check(indices: list[Tensor], tables: list[Tensor], implementation: str) -> None:
    output = embed_events(*indices, *tables, implementation=implementation, scale=SCALE)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(3)).to(output)
    want, want_gradients = truth(indices, tables, weight)
    assert output.dtype == tables[0].dtype
    assert close(output, want)
    gradients = torch.autograd.grad(output, tables, weight)
    for gradient, expected in zip(gradients, want_gradients, strict=True):
        assert close(gradient, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("width", [1, 40, 64, 100])
def test_output_and_gradients_are_those_of_the_definition(
    implementation: str, dtype: torch.dtype, width: int
) -> None:
    check(*draw(150, width, dtype=dtype), implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("events", [0, 1, BLOCK_EVENTS, BLOCK_EVENTS + 1])
def test_no_event_one_event_and_a_full_block(implementation: str, events: int) -> None:
    check(*draw(events, 16), implementation)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 40))
def test_any_length_width_and_number_of_items(events: int, width: int, items: int) -> None:
    check(*draw(events, width, (items, 3, 4, 6)), "triton")


@pytest.mark.parametrize("runs", [[300], [64, 64, 172], [1, 190, 1, 63, 45], [63, 2, 235]])
def test_an_item_whose_events_fill_many_blocks_is_summed_once(runs: list[int]) -> None:
    indices, tables = draw(300, 8)
    item = torch.arange(len(runs)).repeat_interleave(torch.tensor(runs))
    indices[0] = item[torch.randperm(300, generator=torch.Generator().manual_seed(1))].to(DEVICE)
    check(indices, tables, "triton")


def test_a_run_of_more_blocks_than_one_turn_adds_up() -> None:
    indices, tables = draw(BLOCK_EVENTS * 70 + 5, 2, (3, 2, 2, 2))
    indices[0].fill_(1)
    check(indices, tables, "triton")


@pytest.mark.parametrize("rows", [(9, 5, 40, SMALL + 1), (9, SMALL + 1, 7, 8), (9, SMALL, SMALL, SMALL)])
def test_small_tables_are_summed_together_and_longer_ones_by_sorting(rows: tuple[int, ...]) -> None:
    check(*draw(CHUNK + 70, 8, rows), "triton")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_indices_may_be_int32(implementation: str) -> None:
    indices, tables = draw(70, 24)
    check([index.int() for index in indices], tables, implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_views_of_larger_tensors_are_read_by_their_strides(implementation: str) -> None:
    indices, tables = draw(70, 24)
    columns = torch.stack(indices, 1)
    wide = [torch.cat([table, table], 1).detach()[:, 24:].requires_grad_() for table in tables]
    check(list(columns.unbind(1)), wide, implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_sparse_gradient_holds_the_touched_rows_alone(implementation: str, dtype: torch.dtype) -> None:
    indices, tables = draw(200, 24, (1000, 3, 3, 3), dtype)
    output = embed_events(*indices, *tables, implementation=implementation, scale=SCALE, sparse=True)
    output.sum().backward()  # type: ignore[no-untyped-call]
    gradient = tables[0].grad
    assert gradient is not None and gradient.is_sparse
    assert gradient._indices()[0].tolist() == sorted(set(indices[0].tolist()))
    _, (want, *_) = truth(indices, tables, torch.ones_like(output))
    assert close(gradient.to_dense(), want)


def test_an_optimiser_for_sparse_gradients_takes_a_step() -> None:
    indices, tables = draw(50, 8, (100, 3, 3, 3))
    before = tables[0].detach().clone()
    embed_events(*indices, *tables, implementation="triton", scale=1.0, sparse=True).sum().backward()  # type: ignore[no-untyped-call]
    torch.optim.SparseAdam(tables[:1], lr=0.1).step()  # type: ignore[no-untyped-call]
    moved = (tables[0].detach() != before).any(1).nonzero()[:, 0]
    assert moved.tolist() == sorted(set(indices[0].tolist()))


def test_gradients_are_the_same_to_the_bit_whatever_ran_before() -> None:
    indices, tables = draw(500, 24, (7, 5, 4, 300))
    weight = torch.randn(500, 24, device=DEVICE)

    def gradients() -> tuple[Tensor, ...]:
        output = embed_events(*indices, *tables, implementation="triton", scale=SCALE)
        return torch.autograd.grad(output, tables, weight)

    for first, second in zip(gradients(), gradients(), strict=True):
        assert torch.equal(first, second)


def test_nothing_around_a_buffer_is_read_or_written() -> None:
    indices, tables = draw(70, 24)
    want = embed_events(*indices, *tables, implementation="reference", scale=SCALE)
    fenced = [fence(table.detach()) for table in tables]
    inner = [whole[3:-3] for whole in fenced]
    fenced_indices = [torch.cat([wall := index.new_full((2,), 10**6), index, wall]) for index in indices]
    views = [whole[2:-2] for whole in fenced_indices]
    assert torch.equal(embed_events(*views, *inner, implementation="triton", scale=SCALE), want)
    gradient = fence(torch.ones(70, 24, device=DEVICE))
    touched, values = touched_rows_gradient(gradient[3:-3], views[0], 1.0)
    counts = torch.bincount(indices[0])[touched].float()
    assert torch.equal(values, counts[:, None].expand(-1, 24))
    assert all(whole[:3].isnan().all() and whole[-3:].isnan().all() for whole in (*fenced, gradient))


def fence(inner: Tensor) -> Tensor:
    """`inner` with three rows of NaN before and behind it."""
    wall = inner.new_full((3, inner.shape[1]), float("nan"))
    return torch.cat([wall, inner, wall])


def test_poisoned_memory_never_reaches_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    new_empty = Tensor.new_empty

    def poisoned(self: Tensor, *size: Any, **options: Any) -> Tensor:
        empty = new_empty(self, *size, **options)
        return empty.fill_(float("nan") if empty.dtype.is_floating_point else -1)

    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    check(*draw(150, 40), "triton")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("sparse", [False, True])
def test_the_op_is_one_that_compilers_can_take(implementation: str, sparse: bool) -> None:
    indices, tables = draw(70, 8)
    arguments = (*indices, *(table.detach() for table in tables), SCALE, sparse, implementation)
    torch.library.opcheck(_embed_events, arguments)
    rows = [table.shape[0] for table in tables]
    torch.library.opcheck(
        _embed_events_backward,
        (torch.ones(70, 8, device=DEVICE), *indices, rows, SCALE, sparse, implementation),
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_it_compiles_as_one_graph_with_its_gradients(implementation: str) -> None:
    indices, tables = draw(70, 8)

    def loss(*tables: Tensor) -> Tensor:
        output = embed_events(*indices, *tables, implementation=implementation, scale=SCALE)
        return (output * output).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    got = torch.autograd.grad(compiled(*tables), tables)
    want = torch.autograd.grad(loss(*tables), tables)
    assert all(torch.equal(*pair) for pair in zip(got, want, strict=True))


def test_it_exports_with_any_number_of_events() -> None:
    class Input(torch.nn.Module):
        def forward(self, indices: list[Tensor], tables: list[Tensor]) -> Tensor:
            return embed_events(*indices, *tables, implementation="reference", scale=SCALE)

    events = torch.export.Dim("events")
    indices, tables = draw(70, 8)
    tables = [table.detach() for table in tables]
    shapes = {"indices": [{0: events}] * 4, "tables": [{}] * 4}
    program = torch.export.export(Input(), (indices, tables), dynamic_shapes=shapes)
    other, _ = draw(33, 8)
    want = embed_events(*other, *tables, implementation="triton", scale=SCALE)
    assert close(program.module()(other, tables), want.double())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_index_outside_its_table_is_named_on_a_cpu(implementation: str) -> None:
    for bad in (-1, 40):
        indices, tables = draw(5, 8)
        indices[2][3] = bad
        if indices[2].device.type == "cpu":
            with pytest.raises(InputError, match=rf"gap holds {bad}, gap_table has rows 0 to 39"):
                embed_events(*indices, *tables, implementation=implementation, scale=SCALE)


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    indices, tables = draw(5, 8)

    def refused(sentence: str, place: int, other: Tensor, implementation: str = "reference") -> None:
        arguments = [*indices, *tables]
        arguments[place] = other
        with pytest.raises(InputError, match=sentence):
            embed_events(*arguments, implementation=implementation, scale=SCALE)

    refused(r"action has shape \[4\], expected \[5\]", 1, indices[1][:4])
    refused(r"item has shape \[1, 5\], expected \[1\]", 0, indices[0][None])
    refused(r"gap is int16, expected int32, int64", 2, indices[2].short())
    refused(r"position is torch.int32, item is torch.int64", 3, indices[3].int())
    refused(r"gap_table has shape \[40, 7\], expected \[any, 8\]", 6, tables[2][:, :7])
    refused(r"item_table is float64, expected", 4, tables[0].double())
    refused(r"action_table is torch.float16, item_table torch.float32", 5, tables[1].half())
    refused(r"gap_table is on meta, the other tensors on", 6, tables[2].to("meta"))
    refused(r"unknown implementation 'cuda'; there are reference, triton", 0, indices[0], "cuda")
