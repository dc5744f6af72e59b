"""Attention of padded batches: what is exported, beside the packed reference."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.export import Dim
from torch.nn.utils.rnn import pad_sequence

from footfall_kernels.attention.attention import attention
from footfall_kernels.attention.padded import attend_padded
from footfall_kernels.attention.rules import NO_WINDOW, AttentionRules, Kind
from footfall_kernels.buckets import bucket_by_logarithm, bucket_of_reference

HEADS, HEAD_DIM = 2, 24
LATEST = 2**31 - 1
NORMALISERS = {"softmax": 1.0, "silu": 7.0}


class Padded(torch.nn.Module):
    """attend_padded with its rules and tables fixed, as an exporter wants it."""

    def __init__(self, rules: AttentionRules, tables: dict[str, Tensor]) -> None:
        super().__init__()
        self.rules = rules
        self.names = list(tables)
        for name, table in tables.items():
            self.register_buffer(name, table)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, time: Tensor) -> Tensor:
        tables = {name: getattr(self, name) for name in self.names}
        return attend_padded(query, key, value, self.rules, time=time, **tables)


def make_batch(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Packed [total, 3, heads, head_dim] and times whose gaps have every number of bits, up to the latest second."""
    random = torch.Generator().manual_seed(seed)
    fused = torch.randn(sum(lengths), 3, HEADS, HEAD_DIM, generator=random)
    times = []
    for length in lengths:
        bits = torch.randint(0, 32, (length,), generator=random)
        gap = ((1 << bits) - torch.randint(0, 2, (length,), generator=random)).clamp_min(0)
        times.append((LATEST - gap.sort(descending=True).values).clamp_min(0).to(torch.int32))
    time = torch.cat(times)
    wait = torch.randint(0, 1000, time.shape, generator=random, dtype=torch.int32)
    return fused, torch.stack([time, torch.minimum(time, LATEST - wait) + wait], 1)


def make_tables() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(1)
    return {
        "position_bias": torch.randn(HEADS, 5, generator=random),
        "time_bias": torch.randn(HEADS, 40, generator=random),
    }


def by_padding(run: Callable[..., Tensor], lengths: list[int], fused: Tensor, time: Tensor) -> Tensor:
    """The packed result of `run` on the padded batch."""
    cells = pad_sequence(list(torch.split(fused, lengths)), batch_first=True)
    times = pad_sequence(list(torch.split(time, lengths)), batch_first=True)
    mixed = run(*cells.permute(2, 0, 3, 1, 4).unbind(0), times).transpose(1, 2)
    return torch.cat([history[:length] for history, length in zip(mixed, lengths, strict=True)])


def packed(
    lengths: list[int], fused: Tensor, time: Tensor, rules: AttentionRules, tables: dict[str, Tensor]
) -> Tensor:
    query, key, value = fused.unbind(1)
    options: dict[str, Any] = vars(rules) | tables
    return attention(
        query, key, value, torch.tensor([0, *np.cumsum(lengths)]), implementation="reference",
        max_length=max(lengths), time=time, **options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("window", [NO_WINDOW, 4])
def test_a_padded_batch_becomes_what_the_packed_reference_makes_of_it(
    kind: Kind, biased: bool, window: int
) -> None:
    lengths, rules = [9, 1, 14], AttentionRules(kind, 0.3, NORMALISERS[kind], window, prefix=2)
    fused, time = make_batch(lengths)
    tables = make_tables() if biased else {}
    got = by_padding(Padded(rules, tables), lengths, fused, time)
    torch.testing.assert_close(got, packed(lengths, fused, time, rules, tables), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "silu"])
def test_exported_to_onnx_it_is_the_packed_reference_at_any_batch_and_length(
    kind: Kind, tmp_path: Path
) -> None:
    rules, tables = AttentionRules(kind, 0.3, NORMALISERS[kind]), make_tables()
    session = export(Padded(rules, tables), tmp_path / "padded.onnx")

    def run(*inputs: Tensor) -> Tensor:
        names = [feed.name for feed in session.get_inputs()]
        feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, feeds)[0])

    for lengths in ([1], [37, 20, 1, 5], [2] * 9):
        fused, time = make_batch(lengths, seed=len(lengths))
        got = by_padding(run, lengths, fused, time)
        torch.testing.assert_close(got, packed(lengths, fused, time, rules, tables), rtol=1e-5, atol=1e-6)


def export(module: torch.nn.Module, path: Path) -> onnxruntime.InferenceSession:
    example = [torch.ones(3, HEADS, 5, HEAD_DIM) for _ in "qkv"]
    free = [{0: Dim.DYNAMIC, 2: Dim.DYNAMIC}] * 3 + [{0: Dim.DYNAMIC, 1: Dim.DYNAMIC}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            module.eval(), (*example, torch.ones(3, 5, 2, dtype=torch.int32)), dynamo=True, opset_version=20,
            dynamic_shapes=tuple(free), verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=False)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("num", [1, 2, 16, 32, 64])
def test_both_definitions_of_a_bucket_agree_on_every_power_of_two_and_its_neighbours(num: int) -> None:
    around = {sign * (2**power + step) for power in range(32) for step in (-1, 0, 1) for sign in (-1, 1)}
    distance = torch.tensor(sorted(value for value in around if -(2**31) <= value < 2**31), dtype=torch.int32)
    assert distance.max() == LATEST
    assert torch.equal(bucket_by_logarithm(distance, num), bucket_of_reference(distance, num))
