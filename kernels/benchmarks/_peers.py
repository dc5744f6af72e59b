"""Contestants of packed attention: ours, and what else computes the same, each in the layout it is fastest in."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from footfall_kernels.attention.attention import attention
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.plan import plan_attention
from footfall_kernels.attention.rules import AttentionRules

BUCKETS = 32
MASK_BLOCK = 128
MOST_UNFUSED_ROWS = 2048
"""FlexAttention holds every score on a CPU: 128 MiB with 4 heads at this many rows."""


@dataclass(frozen=True)
class Batch:
    """Packed histories: query, key, value and the output's gradient [total, heads, head_dim], time int32 [total,
    2], tables fp32 [heads, BUCKETS]; lengths add up to total, longest bounds them."""

    query: Tensor
    key: Tensor
    value: Tensor
    gradient: Tensor
    time: Tensor
    position_bias: Tensor
    time_bias: Tensor
    lengths: list[int]
    longest: int

    @property
    def offsets(self) -> Tensor:
        lengths = torch.tensor([0, *self.lengths], device=self.query.device)
        return lengths.cumsum(0)

    @property
    def tables(self) -> tuple[Tensor, Tensor]:
        return self.position_bias, self.time_bias


@dataclass(frozen=True)
class Contestant:
    """One implementation on one batch.

    forward reads `leaves` (query, key, value, then tables if any) and gives an output like `gradient`; `pack` brings
    either back to [total, heads, head_dim]; `prepare` is what it does once a batch, for all layers, outside forward.
    """

    forward: Callable[[], Tensor]
    leaves: tuple[Tensor, ...]
    gradient: Tensor
    pack: Callable[[Tensor], Tensor]
    prepare: Callable[[], object] | None = None
    differentiable: bool = True

    def backward(self) -> Callable[[], tuple[Tensor, ...]]:
        """A function that runs the backward pass alone, again and again, of one forward pass run here."""
        output = self.forward()
        return lambda: torch.autograd.grad(output, self.leaves, self.gradient, retain_graph=True)


def ours(batch: Batch, kind: Any, biased: bool, implementation: str) -> Contestant:
    """`attention` with its plan made beforehand; silu divides by the longest length, as Meta's kernels do."""
    leaves = _leaves(batch.query, batch.key, batch.value, *(batch.tables if biased else ()))
    query, key, value, *tables = leaves
    normaliser = float(batch.longest) if kind == "silu" else 1.0
    extras = Extras(None, batch.time, *tables) if biased else Extras()
    rules, offsets = AttentionRules(kind, query.shape[2] ** -0.5, normaliser), batch.offsets

    def prepare() -> Any:
        return plan_attention(query, offsets, rules, batch.longest, extras, implementation=implementation)

    plan = prepare()

    def forward() -> Tensor:
        return attention(
            query, key, value, offsets, implementation=implementation, kind=kind, max_length=batch.longest,
            normaliser=normaliser, plan=plan, **vars(extras),
        )  # fmt: skip

    return Contestant(forward, leaves, batch.gradient, lambda packed: packed, prepare)


def padded_sdpa(batch: Batch, kind: str, biased: bool) -> Contestant:
    """torch's scaled_dot_product_attention, histories padded to the longest beforehand."""
    _only(kind == "softmax" and not biased, "it has softmax without bias alone")

    def pad(packed: Tensor) -> Tensor:  # [batch, heads, longest, head_dim]
        histories = pad_sequence(list(torch.split(packed, batch.lengths)), batch_first=True)
        return histories.transpose(1, 2).contiguous()

    def pack(padded: Tensor) -> Tensor:
        rows = [padded[number, :, :length] for number, length in enumerate(batch.lengths)]
        return torch.cat(rows, dim=1).transpose(0, 1)

    leaves = _leaves(*(pad(tensor) for tensor in (batch.query, batch.key, batch.value)))
    query, key, value = leaves
    return Contestant(
        lambda: scaled_dot_product_attention(query, key, value, is_causal=True),
        leaves,
        pad(batch.gradient),
        pack,
    )


def flex(batch: Batch, kind: str, biased: bool) -> Contestant:
    """FlexAttention (arXiv 2412.05496): one packed sequence, its blocks listed, the tables in its score_mod."""
    _only(kind == "softmax", "it has softmax alone")
    on_gpu, total = batch.query.device.type == "cuda", len(batch.query)
    _only(on_gpu or total <= MOST_UNFUSED_ROWS, f"on a CPU it holds every score: {total} rows are too many")

    def turn(packed: Tensor) -> Tensor:  # [1, heads, total, head_dim]
        return packed.transpose(0, 1).unsqueeze(0).contiguous()

    tensors = [turn(tensor) for tensor in (batch.query, batch.key, batch.value)]
    leaves = _leaves(*tensors, *(batch.tables if biased else ()), differentiable=on_gpu)
    document = _documents(batch)

    attend: Callable[..., Tensor] = flex_attention
    if on_gpu:
        # A backward pass that may reuse its buffers runs only once.
        config: Any = importlib.import_module("torch._functorch.config")
        config.donated_buffer = False
        attend = torch.compile(flex_attention, dynamic=False)
    mask, score_mod = block_mask(document), _add_bias(leaves[3], leaves[4], batch.time) if biased else None
    return Contestant(
        lambda: attend(*leaves[:3], block_mask=mask, score_mod=score_mod),
        leaves,
        turn(batch.gradient),
        lambda turned: turned.squeeze(0).transpose(0, 1),
        lambda: block_mask(document),
        differentiable=on_gpu,
    )


def _add_bias(position_bias: Tensor, time_bias: Tensor, time: Tensor) -> Callable[..., Tensor]:
    def score_mod(score: Tensor, _: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        place = position_bias[head, _bucket(row - column)]
        return score + place + time_bias[head, _bucket(time[row, 1] - time[column, 0])]

    return score_mod


def block_mask(document: Tensor) -> BlockMask:
    """Causal within documents, document int [total] ascending.

    What create_block_mask finds by looking at all total^2 pairs, from the documents at both ends of each block.
    """
    total, first = len(document), document[::MASK_BLOCK]
    place = torch.arange(len(first), device=document.device)
    end = (place + 1) * MASK_BLOCK
    last = document[end.clamp_max(total) - 1]
    past = place[:, None] > place[None, :]
    whole = past & (first[None, :] == last[:, None]) & (end <= total)[:, None]  # a short block is masked
    part = ((past & (last[None, :] >= first[:, None])) | (place[:, None] == place[None, :])) & ~whole

    def listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.argsort(blocks.int(), dim=1, descending=True, stable=True)
        return blocks.sum(1, dtype=torch.int32)[None, None], order.int()[None, None]

    def visible(_: Tensor, __: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return (row >= column) & (document[row] == document[column])

    return BlockMask.from_kv_blocks(
        *listed(part), *listed(whole), BLOCK_SIZE=MASK_BLOCK, mask_mod=visible, seq_lengths=(total, total)
    )


def meta(batch: Batch, kind: str, biased: bool, *, tma: bool, folder: str | None) -> Contestant:
    """Meta's Triton HSTU kernels (generative-recommenders), tuned by their own configurations on the first call.

    `folder` is a checkout of github.com/meta-recsys/generative-recommenders. Their TMA descriptors assume packed
    rows, which these leaves have; their layers ask for TMA on sm_90.
    """
    _only(kind == "silu" and not biased, "it has silu without bias alone")
    _only(batch.query.device.type == "cuda", "it needs a GPU")
    _only(folder is not None, "its folder is not named by --meta-kernels")
    assert folder is not None
    _find_package("generative_recommenders", Path(folder))
    module = importlib.import_module("generative_recommenders.ops.triton.triton_hstu_attention")
    leaves, offsets = _leaves(batch.query, batch.key, batch.value), batch.offsets
    scale = batch.query.shape[2] ** -0.5
    return Contestant(
        lambda: module.triton_hstu_mha(batch.longest, scale, *leaves, offsets, enable_tma=tma),
        leaves,
        batch.gradient,
        lambda packed: packed,
    )


def _find_package(name: str, folder: Path) -> None:
    """Lets the package and all inside it be imported from `folder`, and nothing else."""
    inside = folder / name
    spec = importlib.util.spec_from_file_location(
        name, inside / "__init__.py", submodule_search_locations=[str(inside)]
    )
    assert spec and spec.loader
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    sys.modules.setdefault(name, package)


class NotAPeerError(Exception):
    """Why a peer cannot be compared."""


def _only(condition: bool, reason: str) -> None:
    if not condition:
        raise NotAPeerError(reason)


def _leaves(*tensors: Tensor, differentiable: bool = True) -> tuple[Tensor, ...]:
    return tuple(tensor.detach().clone().requires_grad_(differentiable) for tensor in tensors)


def _documents(batch: Batch) -> Tensor:
    numbers = torch.arange(len(batch.lengths), device=batch.query.device)
    return numbers.repeat_interleave(torch.tensor(batch.lengths, device=batch.query.device))


def _bucket(distance: Tensor) -> Tensor:
    """Bit length by a float's exponent, in the two operations that ours takes; of pairs that are not seen, any."""
    length = (distance.clamp_min(0).float().view(torch.int32) >> 23) - 126
    return length.clamp(0, BUCKETS - 1)
