"""Touched: the items that one step has to do with, so that it costs what it touches and not the catalogue."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from footfall.contract import PADDING_INDEX
from footfall_models.appending import MASK_INDEX
from footfall_training.batches import Batch
from footfall_training.negatives import Negatives


@dataclass(frozen=True)
class Touched:
    """The rows of the item table that a step works with, and where among them its items lie.

    rows int64 [touched]: the items, ascending, padding the first; None: the whole table, where an item lies at its
    own index. read int64 [events] and target int64 [scored]: of the batch. negative int64 [negatives]: of one draw
    for the whole batch, where there is one, and log_q fp32 [touched], the log of each row's expected count in it.
    """

    rows: Tensor | None
    read: Tensor
    target: Tensor
    negative: Tensor | None = None
    log_q: Tensor | None = None

    @classmethod
    def by(cls, batch: Batch, negatives: Negatives | None) -> "Touched":
        """Of a batch on the host; without `negatives` a step compares with the whole catalogue."""
        read, target = batch.inputs.item, batch.next_item
        if negatives is None:
            return cls(None, read, target)
        draw = negatives.draw()
        items = torch.cat([draw.new_tensor([PADDING_INDEX]), read.clamp(min=PADDING_INDEX), target, draw])
        rows, place = torch.unique(items, return_inverse=True)
        place, target, draw = place[1:].split([len(read), len(target), len(draw)])
        read = torch.where(read == MASK_INDEX, MASK_INDEX, place)  # a mask is no item, and stays one
        return cls(rows, read, target, draw, negatives.log_expected[rows])

    def to(self, device: torch.device) -> "Touched":
        moved: dict[str, Any] = {
            name: None if part is None else part.to(device, non_blocking=True)
            for name, part in vars(self).items()
        }
        return Touched(**moved)
