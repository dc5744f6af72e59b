"""One batch of packed attention and its slow definition, pair by pair in float64, for the tests of what runs it."""

import dataclasses
import itertools
from typing import Any

import torch
from torch import Tensor

from footfall_kernels.attention.attention import attention
from footfall_kernels.attention.rules import NO_WINDOW, Kind

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
            happened = gaps.cumsum(0)
            looks_back = happened + torch.randint(0, 900, (total,), generator=random)
            options["time"] = torch.stack([happened, looks_back], 1).to(device, torch.int32)
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
            *three(leaves[0]),
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
            column for column in range(min(place + 1, history)) if is_near(place - column, column, options)
        ]
        seen = near if row in near else [*near, row]
        score = torch.einsum("hd,nhd->hn", query[row], key[seen]) * head_dim**-0.5
        if position is not None:
            score = score + torch.stack([position[:, bits(place - column, position)] for column in seen], 1)
        if time is not None:
            times = options["time"][start:]
            gaps = [int(times[row, 1] - times[column, 0]) for column in seen]
            score = score + torch.stack([time[:, bits(gap, time)] for gap in gaps], 1)
        weight = (
            score.softmax(1) if case.kind == "softmax" else score * score.sigmoid() / options["normaliser"]
        )
        output.append(torch.einsum("hn,nhd->hd", weight, value[seen]))
    return torch.stack(output) if output else query.new_zeros(0, heads, head_dim)


def is_near(distance: int, column: int, options: dict[str, Any]) -> bool:
    return distance < int(options.get("window", NO_WINDOW)) or column < int(options.get("prefix", 0))


def three(fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = fused.unbind(1)
    return query, key, value


def bits(distance: int, table: Tensor) -> int:
    return min(max(distance, 0).bit_length(), table.shape[1] - 1)


def assert_close(got: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one.double().cpu() - other).abs().max() <= TOLERANCE[dtype] * other.abs().max()
