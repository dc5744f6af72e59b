"""Group: sequences of like length padded together, and the way of packed rows into its cells and back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from footfall_kernels.attention.pairs import number_pairs
from footfall_kernels.attention.rules import AttentionRules
from footfall_kernels.buckets import bucket_of_reference


@dataclass(frozen=True)
class Group:
    """int64 tensors; `cells` are the group's length * sequences places for an event.

    slot [sequences, length]: packed row of each cell; behind a sequence's end its first row, which adds nothing to
    what the others see. cell: the flat cells with an event, empty for a run: sequences of one length that lie in the
    packed rows as they do here, and need no copy. padding: the other cells. history [sequences]: events before the
    candidates, empty where there are none. pair [sequences or 1, length, length]: see attention_pairs; empty where
    they are too many to hold.
    """

    slot: Tensor
    cell: Tensor
    padding: Tensor
    history: Tensor
    pair: Tensor

    def pairs(
        self,
        start: int,
        end: int,
        rules: AttentionRules,
        num_buckets: tuple[int, int],
        time: Tensor | None,
    ) -> Tensor:
        """Numbers of the pairs of queries start:end with keys :end, [sequences or 1, end - start, end]."""
        if self.pair.numel():
            return self.pair[:, start:end, :end]
        return number_pairs(
            start, end, rules, num_buckets, bucket_of_reference, device=self.slot.device,
            time=time[self.slot].long() if time is not None and num_buckets[1] else None,
            history=self.history if self.history.numel() else None,
        )  # fmt: skip

    def by_sequence(self, packed: Tensor, *, zeros: bool = False) -> Tensor:
        """[total, heads, head_dim] -> [sequences, heads, length, head_dim], zero at the padding if asked for."""
        if self.is_run:
            cells = self._run(packed)
        else:
            cells = packed.index_select(0, self.slot.flatten())
            if zeros:
                cells.index_fill_(0, self.padding, 0.0)
        return cells.view(*self.slot.shape, *packed.shape[1:]).transpose(1, 2)

    def by_head(self, packed: Tensor, dtype: torch.dtype, *, zeros: bool = False) -> Tensor:
        """[total, heads, head_dim] -> contiguous [heads * sequences, length, head_dim] of `dtype`."""
        _, heads, head_dim = packed.shape
        if self.is_run:
            cells = self._run(packed).transpose(0, 1).to(dtype).contiguous()
        else:
            cells = packed.new_empty(heads, self.slot.numel(), head_dim)
            for head in range(heads):
                torch.index_select(packed[:, head], 0, self.slot.flatten(), out=cells[head])
            cells = cells.to(dtype)
            if zeros:
                cells.index_fill_(1, self.padding, 0.0)
        return cells.view(-1, self.slot.shape[1], head_dim)

    def store(self, padded: Tensor, packed: Tensor) -> None:
        """Writes the events of [sequences, heads, length, head_dim] into [total, heads, head_dim]."""
        rows = padded.transpose(1, 2)  # [sequences, length, heads, head_dim]
        if self.is_run:
            self._run(packed).view(rows.shape).copy_(rows)
        else:
            row = self.slot.flatten().index_select(0, self.cell)
            events = rows.flatten(0, 1).index_select(0, self.cell)
            packed.index_copy_(0, row, events.to(packed.dtype))

    @property
    def is_run(self) -> bool:
        return not self.cell.numel()

    def _run(self, packed: Tensor) -> Tensor:
        """The rows of a run."""
        return packed.narrow(0, int(self.slot[0, 0]), self.slot.numel())
