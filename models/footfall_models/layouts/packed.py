"""PackedLayout: whole histories, one behind the other, worked on by footfall_kernels."""

from copy import copy
from typing import Self

import torch
from torch import Tensor

from footfall_kernels.attention.attention import attention
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.last import attend_last
from footfall_kernels.attention.plan import AttentionPlan, plan_attention
from footfall_kernels.embed_events.embed_events import embed_events
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import Positions
from footfall_models.inputs import PackedInputs
from footfall_models.layouts.layout import Cell, QueryKeyValue


class KernelLayout:
    """Tokens [events, ...] of packed `inputs`, worked on by footfall_kernels.

    last_only: of the last layer, the states of each history's last token alone are asked for.
    """

    def __init__(
        self, inputs: PackedInputs, implementation: ImplementationName, *, last_only: bool = False
    ) -> None:
        self.inputs, self.implementation = inputs, implementation
        self._last_only = last_only
        self._picked: Tensor | None = None

    def embed(self, indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
        return embed_events(*indices, *tables, implementation=self.implementation, scale=scale)

    def positions(self, counted: Positions) -> Tensor:
        if counted == "first":
            return self.inputs.position
        row = torch.arange(len(self.inputs.position), device=self.inputs.position.device)
        return (self.inputs.offsets[1:][self._history(row)] - 1 - row).clamp(min=0)

    def narrow(self) -> Self:
        if not self._last_only:
            return self
        narrow = copy(self)
        narrow._picked = (self.inputs.offsets[1:] - 1).clamp(min=0)
        return narrow

    def pick(self, tokens: Tensor) -> Tensor:
        """[events, ...] -> [histories, ...] where narrowed; of a history without events it means nothing."""
        return tokens if self._picked is None else tokens.index_select(0, self._picked)

    def _history(self, row: Tensor) -> Tensor:
        """Of each row of the batch; one behind the last offset belongs to nobody and counts as the last one's."""
        return torch.searchsorted(self.inputs.offsets[1:], row, right=True).clamp(
            max=len(self.inputs.offsets) - 2
        )


class PackedLayout(KernelLayout):
    """Whole histories, none longer than max_length."""

    def __init__(
        self,
        inputs: PackedInputs,
        implementation: ImplementationName,
        max_length: int,
        *,
        last_only: bool = False,
    ) -> None:
        super().__init__(inputs, implementation, last_only=last_only)
        self._max_length = max_length
        self._plan: AttentionPlan | None = None

    def attend(self, layer: int, parts: QueryKeyValue) -> Tensor:
        rules, offsets, time = parts.rules, self.inputs.offsets, self.inputs.time
        if self._picked is not None:
            return attend_last(
                parts.query,
                parts.key,
                parts.value,
                offsets,
                rules,
                time=time,
                position_bias=parts.position_bias,
                time_bias=parts.time_bias,
            )
        if self._plan is None:  # of the first layer, for all
            extras = Extras(None, time, parts.position_bias, parts.time_bias)
            self._plan = plan_attention(
                parts.query,
                offsets,
                rules,
                self._max_length,
                extras,
                implementation=self.implementation,
                trusted=True,  # of PackedInputs; to look would wait for the GPU
            )
        return attention(
            parts.query,
            parts.key,
            parts.value,
            offsets,
            implementation=self.implementation,
            kind=rules.kind,
            scale=rules.scale,
            normaliser=rules.normaliser,
            max_length=self._max_length,
            time=time,
            position_bias=parts.position_bias,
            time_bias=parts.time_bias,
            plan=self._plan,
        )

    def scan(self, layer: int, cell: Cell, tokens: Tensor, width: int) -> Tensor:
        begin = tokens.new_zeros(len(self.inputs.offsets) - 1, width)
        return scan_packed(cell, tokens, self.inputs.offsets, begin)

    def filter(self, tokens: Tensor, weight: Tensor) -> Tensor:
        offsets, row = self.inputs.offsets, torch.arange(len(tokens), device=tokens.device)
        history = self._history(row)
        if self._picked is not None:
            distance = self._picked[history] - row
            share = torch.where(distance >= 0, weight[distance.clamp(0, len(weight) - 1)], 0)
            sums = tokens.new_zeros(len(self._picked), tokens.shape[1])
            return sums.index_add(0, history, (share.unsqueeze(1) * tokens).to(tokens.dtype))
        # On a GPU as long as can be: to ask for the longest would wait for it.
        longest = len(weight) if tokens.is_cuda else int(offsets.diff().max())
        cells = (len(offsets) - 1) * longest
        cell = torch.where(row < offsets[-1], history * longest + row - offsets[history], cells)
        padded = tokens.new_zeros(cells + 1, tokens.shape[1]).index_copy(0, cell, tokens)
        place = torch.arange(longest, device=tokens.device)
        distance = place.unsqueeze(1) - place
        share = torch.where(distance >= 0, weight[distance.clamp(min=0)], 0).to(tokens.dtype)
        mixed = torch.matmul(share, padded[:cells].view(-1, longest, tokens.shape[1]))
        return mixed.flatten(0, 1).index_select(0, cell.clamp(max=cells - 1))

    def shift(self, tokens: Tensor, distance: int) -> Tensor:
        position = self.inputs.position
        place = torch.arange(len(tokens), device=tokens.device) - distance
        place = place.clamp(0, len(tokens) - 1)
        beyond = position[place] != position - distance  # then it is another history's
        return tokens[place].masked_fill(beyond.unsqueeze(1), 0)


def scan_packed(cell: Cell, tokens: Tensor, offsets: Tensor, begin: Tensor) -> Tensor:
    """The states [events, width] of packed histories, each from its row of `begin` [histories, width].

    As many steps as the longest history has events, each over the histories that are that long, so nothing is padded.
    The steps are counted on the host.
    """
    lengths, order = offsets.diff().sort(descending=True, stable=True)
    step = torch.arange(int(lengths[0]), device=tokens.device).unsqueeze(1)
    still_runs = step < lengths  # [steps, histories]
    place = (offsets[:-1][order] + step)[still_runs]  # of the events, step by step
    state, states = begin[order], []
    for token in torch.split(tokens[place], still_runs.sum(1).tolist()):
        state = cell(token, state[: len(token)])
        states.append(state)
    made = torch.cat(states)
    return made.new_zeros(len(tokens), begin.shape[1]).index_copy(0, place, made)
