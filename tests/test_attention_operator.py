"""The operator of attention: what torch itself asks of one, and gradients in every precision."""

from typing import Any

import pytest
import torch
from attention_case import RULES, Case, assert_close
from conftest import DEVICE
from torch import Tensor

from footfall_kernels.attention.attention import attention
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.plan import AttentionPlan, plan_attention
from footfall_kernels.attention.rules import NO_WINDOW, AttentionRules, Kind

pytestmark = pytest.mark.kernels

# The interpreter takes seconds for what opcheck and the tracers do with a kernel: one small case of its own.
SEEN_BY_TORCH = [
    ("reference", "softmax", {}),
    ("reference", "softmax", RULES["candidates, both tables"]),
    ("reference", "silu", {}),
    ("reference", "silu", RULES["candidates, both tables"]),
    ("triton", "softmax", {"lengths": (20, 3), "position": True}),
]


def plan_of(case: Case, implementation: str) -> AttentionPlan:
    options = case.options
    rules = AttentionRules(
        case.kind, 1.0, window=options.get("window", NO_WINDOW), prefix=options.get("prefix", 0)
    )
    extras = Extras(options.get("num_candidates"), options.get("time"), *case.tables)
    return plan_attention(
        case.fused[:, 0], case.offsets, rules, options["max_length"], extras, implementation=implementation
    )


class Layer(torch.nn.Module):
    def __init__(self, case: Case, implementation: str) -> None:
        super().__init__()
        self.case, self.implementation = case, implementation
        self.plan = plan_of(case, implementation)

    def forward(self, fused: Tensor) -> Tensor:
        query, key, value = fused.unbind(1)
        position, time = self.case.tables
        return attention(
            query, key, value, self.case.offsets, implementation=self.implementation, kind=self.case.kind,
            position_bias=position, time_bias=time, plan=self.plan, **self.case.options,
        )  # fmt: skip


@pytest.mark.parametrize(("implementation", "kind", "rules"), SEEN_BY_TORCH)
def test_torchs_own_checks_pass(implementation: str, kind: Kind, rules: dict[str, Any]) -> None:
    case = Case.make(DEVICE, kind, **rules)
    query, key, value = case.fused.unbind(1)
    position, time = (None if table is None else table.requires_grad_() for table in case.tables)
    arguments = (
        query.clone().requires_grad_(), key, value, case.options.get("num_candidates"), case.options.get("time"),
        position, time, plan_of(case, implementation).tensors, implementation, kind, 0.2,
        1.0, NO_WINDOW, 0, False,
    )  # fmt: skip
    torch.library.opcheck(torch.ops.footfall.attention.default, arguments)


@pytest.mark.parametrize(("implementation", "kind", "rules"), SEEN_BY_TORCH)
def test_compile_and_export_take_it_whole(implementation: str, kind: Kind, rules: dict[str, Any]) -> None:
    case = Case.make(DEVICE, kind, **rules)
    layer = Layer(case, implementation)
    expected = layer(case.fused)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert torch.equal(compiled(case.fused), expected)
    exported = torch.export.export(layer, (case.fused,))
    assert torch.equal(exported.module()(case.fused), expected)


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("rules", RULES)
def test_the_references_gradients_are_those_of_differences_in_float64(kind: Kind, rules: str) -> None:
    case = Case.make("cpu", kind, torch.float64, lengths=(5, 4, 0, 3), head_dim=3, **RULES[rules])
    if "num_candidates" in case.options:
        case.options["num_candidates"] = torch.tensor([2, 1, 0, 3])
    leaves = [tensor.double().requires_grad_() for tensor in (case.fused, *case.tables) if tensor is not None]

    def run(fused: Tensor, *tables: Tensor) -> Tensor:
        rest = iter(tables)
        names = ("position_bias", "time_bias")
        biases: dict[str, Any] = {
            name: next(rest) for name, table in zip(names, case.tables, strict=True) if table is not None
        }
        query, key, value = fused.unbind(1)
        return attention(
            query, key, value, case.offsets, implementation="reference", kind=kind, **biases, **case.options
        )

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("rules", ["plain", "candidates, both tables"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_reference_takes_half_precision(kind: Kind, rules: str, dtype: torch.dtype) -> None:
    case = Case.make("cpu", kind, dtype, **RULES[rules])
    assert_close(case.run("reference"), case.define(), dtype)


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("rules", RULES)
def test_the_references_gradients_have_the_same_bits_each_time(kind: Kind, rules: str) -> None:
    case = Case.make(
        "cpu", kind, lengths=(70, 60, 90, 37) * 4, head_dim=24, **RULES[rules] | {"candidates": False}
    )
    first = case.run("reference")
    for _ in range(3):
        assert all(torch.equal(one, other) for one, other in zip(case.run("reference"), first, strict=True))
