"""Contexts: how the tokens of a batch lie, and what each attends to; one a forward pass of a SequenceModel."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from footfall_kernels.attention.attention import AttentionPlan, attention, plan_attention
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.padded import attend_padded
from footfall_kernels.attention.rules import AttentionRules
from footfall_kernels.embed_events import reference as embed_events_reference
from footfall_kernels.embed_events.embed_events import embed_events
from footfall_kernels.implementations import ImplementationName
from footfall_models.inputs import PackedInputs


@dataclass(frozen=True)
class Heads:
    """One layer's query, key and value [..., heads, head_dim] and how they meet.

    position_bias and time_bias: fp32 [heads, buckets], or None (see footfall_kernels.attention.attention).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    rules: AttentionRules
    position_bias: Tensor | None = None
    time_bias: Tensor | None = None


class Context(Protocol):
    def embed(self, indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
        """Indices [...] and tables in the order item, action, gap, position -> [..., width]."""

    def attend(self, layer: int, heads: Heads) -> Tensor:
        """What each token gathers from its history: as `heads.query`."""


class KernelContext:
    """Tokens [events, ...] of packed `inputs`, worked on by footfall_kernels."""

    def __init__(self, inputs: PackedInputs, implementation: ImplementationName) -> None:
        self.inputs, self.implementation = inputs, implementation

    def embed(self, indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
        return embed_events(*indices, *tables, implementation=self.implementation, scale=scale)


class PackedContext(KernelContext):
    """Whole histories, none longer than max_length."""

    def __init__(self, inputs: PackedInputs, implementation: ImplementationName, max_length: int) -> None:
        super().__init__(inputs, implementation)
        self._max_length = max_length
        self._plan: AttentionPlan | None = None

    def attend(self, layer: int, heads: Heads) -> Tensor:
        rules, offsets, time = heads.rules, self.inputs.offsets, torch.stack([self.inputs.time] * 2, -1)
        if self._plan is None:  # of the first layer, for all
            extras = Extras(None, time, heads.position_bias, heads.time_bias)
            self._plan = plan_attention(
                heads.query,
                offsets,
                rules,
                self._max_length,
                extras,
                implementation=self.implementation,
                trusted=True,  # of PackedInputs; to look would wait for the GPU
            )
        return attention(
            heads.query,
            heads.key,
            heads.value,
            offsets,
            implementation=self.implementation,
            kind=rules.kind,
            scale=rules.scale,
            normaliser=rules.normaliser,
            max_length=self._max_length,
            time=time,
            position_bias=heads.position_bias,
            time_bias=heads.time_bias,
            plan=self._plan,
        )


@dataclass(frozen=True)
class PaddedContext:
    """Tokens [users, length, ...] filled from the left, time int32 [users, length]; only what ONNX can express."""

    time: Tensor

    def embed(self, indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
        return embed_events_reference.embed(indices, tables, scale)

    def attend(self, layer: int, heads: Heads) -> Tensor:
        query, key, value = (part.transpose(1, 2) for part in (heads.query, heads.key, heads.value))
        mixed = attend_padded(
            query,
            key,
            value,
            heads.rules,
            time=torch.stack([self.time] * 2, -1),
            position_bias=heads.position_bias,
            time_bias=heads.time_bias,
        )
        return mixed.transpose(1, 2)
