"""Layouts of the torch engine: they hold on to what a cache may keep of each layer, and read the past from it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from footfall_kernels.decode_attention.decode_attention import decode_attention
from footfall_kernels.decode_attention.paged_cache import PagedCache
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import Positions
from footfall_models.inputs import PackedInputs
from footfall_models.layouts.layout import Cell, QueryKeyValue
from footfall_models.layouts.packed import KernelLayout, PackedLayout, scan_packed

Kept = list[tuple[Tensor, ...]]
"""Of every layer, event by event of a pass: key and value [events, heads, head_dim], or the state [events, width]."""
Layers = Sequence[PagedCache] | Sequence[Tensor]
"""What a cache holds of every layer: keys and values, or states [sequences, width]."""


class KeepingLayout(PackedLayout):
    """Whole histories, of which the last states are asked for; `kept` is what a cache may keep of the pass."""

    def __init__(self, inputs: PackedInputs, implementation: ImplementationName, max_length: int) -> None:
        super().__init__(inputs, implementation, max_length, last_only=True)
        self.kept: Kept = []

    def attend(self, layer: int, parts: QueryKeyValue) -> Tensor:
        self.kept.append((parts.key, parts.value))
        return super().attend(layer, parts)

    def scan(self, layer: int, cell: Cell, tokens: Tensor, width: int) -> Tensor:
        states = super().scan(layer, cell, tokens, width)
        self.kept.append((states,))
        return states


class ReturningLayout(KernelLayout):
    """New events of users whose past is in the cache, positions counted from the history's begin.

    `layers` hold the past in `sequences`, one a user of `inputs`; no user has more than `most` new events. `kept` is
    what a cache may keep of the new ones.
    """

    def __init__(
        self,
        inputs: PackedInputs,
        implementation: ImplementationName,
        layers: Layers,
        sequences: Sequence[int],
        most: int,
    ) -> None:
        super().__init__(inputs, implementation, last_only=True)
        self.kept: Kept = []
        self._layers = layers
        self._shape = (len(sequences), most)
        user = torch.repeat_interleave(inputs.offsets.diff(), output_size=len(inputs.item))
        within = torch.arange(len(user), device=user.device) - inputs.offsets[:-1][user]
        self._cell = user * most + within
        self._sequences = torch.tensor(sequences, device=user.device)

    def attend(self, layer: int, parts: QueryKeyValue) -> Tensor:
        past = self._layers[layer]
        assert isinstance(past, PagedCache), "the encoder attends, so it keeps keys and values"
        self.kept.append((parts.key, parts.value))
        rules = parts.rules
        cell = self.pick(self._cell)
        mixed = decode_attention(
            self._pad(parts.query, cell),
            self._pad(parts.key, self._cell),
            self._pad(parts.value, self._cell),
            past,
            implementation=self.implementation,
            kind=rules.kind,
            causal=True,
            scale=rules.scale,
            normaliser=rules.normaliser,
            position_bias=parts.position_bias,
            time_bias=parts.time_bias,
            time=None if parts.time_bias is None else self._pad(self.inputs.time, self._cell),
            sequences=self._sequences,
        )
        return mixed.flatten(0, 1).index_select(0, cell)

    def scan(self, layer: int, cell: Cell, tokens: Tensor, width: int) -> Tensor:
        past = self._layers[layer]
        assert isinstance(past, Tensor), "the encoder scans, so it keeps states"
        states = scan_packed(cell, tokens, self.inputs.offsets, past[self._sequences])
        self.kept.append((states,))
        return states

    def positions(self, counted: Positions) -> Tensor:
        assert counted == "first", (
            "positions counted from the last change, so a model that has them keeps nothing"
        )
        return super().positions(counted)

    def filter(self, tokens: Tensor, weight: Tensor) -> Tensor:
        raise AssertionError(
            "a filter reads tokens that no cache keeps, so an encoder that has one keeps nothing"
        )

    def shift(self, tokens: Tensor, distance: int) -> Tensor:
        raise AssertionError(
            "a shift reads tokens that no cache keeps, so an encoder that shifts keeps nothing"
        )

    def _pad(self, packed: Tensor, cell: Tensor) -> Tensor:
        """[tokens, ...] -> [users, most, ...], each to its cell; on what is in the others nobody's result depends."""
        cells = packed.new_zeros(self._shape[0] * self._shape[1], *packed.shape[1:])
        return cells.index_copy(0, cell, packed).view(*self._shape, *packed.shape[1:])
