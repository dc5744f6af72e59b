"""Contexts of the torch engine: they hold on to each layer's keys and values, and may read the past from a cache."""

from collections.abc import Sequence

import torch
from torch import Tensor

from footfall_kernels.decode_attention.decode_attention import decode_attention
from footfall_kernels.decode_attention.paged_cache import PagedCache
from footfall_kernels.implementations import ImplementationName
from footfall_models.contexts import Heads, KernelContext, PackedContext
from footfall_models.inputs import PackedInputs

KeysValues = list[tuple[Tensor, Tensor]]
"""Of every layer, [events, heads, head_dim] each."""


class KeepingContext(PackedContext):
    """Whole histories; `kept` are the keys and values of the pass."""

    def __init__(self, inputs: PackedInputs, implementation: ImplementationName, max_length: int) -> None:
        super().__init__(inputs, implementation, max_length)
        self.kept: KeysValues = []

    def attend(self, layer: int, heads: Heads) -> Tensor:
        self.kept.append((heads.key, heads.value))
        return super().attend(layer, heads)


class ReturningContext(KernelContext):
    """New events of users whose past is in the cache, positions counted from the history's begin.

    `layers` hold the past in `sequences`, one a user of `inputs`; no user has more than `most` new events. `kept` are
    the new keys and values.
    """

    def __init__(
        self,
        inputs: PackedInputs,
        implementation: ImplementationName,
        layers: Sequence[PagedCache],
        sequences: Sequence[int],
        most: int,
    ) -> None:
        super().__init__(inputs, implementation)
        self.kept: KeysValues = []
        self._layers = layers
        self._shape = (len(sequences), most)
        user = torch.repeat_interleave(inputs.offsets.diff(), output_size=len(inputs.item))
        within = torch.arange(len(user), device=user.device) - inputs.offsets[:-1][user]
        self._cell = user * most + within
        self._sequences = torch.tensor(sequences, device=user.device)

    def attend(self, layer: int, heads: Heads) -> Tensor:
        self.kept.append((heads.key, heads.value))
        rules = heads.rules
        mixed = decode_attention(
            self._pad(heads.query),
            self._pad(heads.key),
            self._pad(heads.value),
            self._layers[layer],
            implementation=self.implementation,
            kind=rules.kind,
            causal=True,
            scale=rules.scale,
            normaliser=rules.normaliser,
            position_bias=heads.position_bias,
            time_bias=heads.time_bias,
            time=None if heads.time_bias is None else self._pad(torch.stack([self.inputs.time] * 2, -1)),
            sequences=self._sequences,
        )
        return mixed.flatten(0, 1).index_select(0, self._cell)

    def _pad(self, packed: Tensor) -> Tensor:
        """[events, ...] -> [users, most, ...]; what is behind a user's events, nobody's result depends on."""
        cells = packed.new_zeros(self._shape[0] * self._shape[1], *packed.shape[1:])
        return cells.index_copy(0, self._cell, packed).view(*self._shape, *packed.shape[1:])
