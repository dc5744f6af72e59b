"""Contexts of the torch engine: they write keys and values to a cache, or read the past from it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from footfall_kernels.decode_attention import append, decode_attention
from footfall_kernels.embed_events import embed_events
from footfall_kernels.paged_cache import PagedCache
from footfall_training.contexts import Heads, PackedContext
from footfall_training.inputs import PackedInputs


class RecordingContext(PackedContext):
    """Whole histories; the keys and values of `rows` int64 [kept events] go to the cache.

    They are those of the sequences `sequences` of the cache, one after another, bounded by `bounds`.
    """

    def __init__(
        self,
        inputs: PackedInputs,
        max_length: int,
        implementation: str,
        layers: Sequence[PagedCache],
        rows: Tensor,
        sequences: Sequence[int],
        bounds: Sequence[int],
    ) -> None:
        super().__init__(inputs.offsets, inputs.time, max_length, implementation)
        self._layers, self._rows, self._sequences, self._bounds = layers, rows, sequences, bounds

    def attend(self, layer: int, heads: Heads) -> Tensor:
        mixed = super().attend(layer, heads)
        append(
            self._layers[layer],
            heads.key.index_select(0, self._rows),
            heads.value.index_select(0, self._rows),
            self.time.index_select(0, self._rows),
            implementation=self.implementation,
            sequences=self._sequences,
            offsets=self._bounds,
        )
        return mixed


class ReturningContext:
    """New events of users whose past is in the cache: packed `inputs`, positions counted from the history's begin.

    Each layer's new keys and values are appended once its queries have read what was there before.
    """

    def __init__(
        self,
        inputs: PackedInputs,
        implementation: str,
        layers: Sequence[PagedCache],
        sequences: Sequence[int],
        bounds: Sequence[int],
    ) -> None:
        self._implementation, self._layers = implementation, layers
        self._sequences, self._bounds, self._time = sequences, bounds, inputs.time
        lengths = inputs.offsets.diff()
        self._most = int(torch.tensor(bounds).diff().max())
        user = torch.repeat_interleave(lengths, output_size=len(inputs.item))
        within = torch.arange(len(user), device=user.device) - inputs.offsets[:-1][user]
        self._cell = user * self._most + within
        self._sequence = torch.tensor(sequences, device=user.device)

    def embed(self, indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
        return embed_events(*indices, *tables, implementation=self._implementation, scale=scale)

    def attend(self, layer: int, heads: Heads) -> Tensor:
        cache, rules = self._layers[layer], heads.rules
        mixed = decode_attention(
            self._pad(heads.query),
            self._pad(heads.key),
            self._pad(heads.value),
            cache,
            implementation=self._implementation,
            kind=rules.kind,
            causal=True,
            scale=rules.scale,
            normaliser=rules.normaliser,
            position_bias=heads.position_bias,
            time_bias=heads.time_bias,
            time=None if heads.time_bias is None else self._pad(self._time),
            sequences=self._sequence,
        )
        append(
            cache,
            heads.key.contiguous(),
            heads.value.contiguous(),
            self._time,
            implementation=self._implementation,
            sequences=self._sequences,
            offsets=self._bounds,
        )
        return mixed.flatten(0, 1).index_select(0, self._cell)

    def _pad(self, packed: Tensor) -> Tensor:
        """[events, ...] -> [users, most, ...]; what is behind a user's events, nobody's result depends on."""
        cells = packed.new_zeros(len(self._sequences) * self._most, *packed.shape[1:])
        cells = cells.index_copy(0, self._cell, packed)
        return cells.view(len(self._sequences), self._most, *packed.shape[1:])
