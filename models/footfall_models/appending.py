"""Appending: the mask behind each history when a model is asked whose objective hides events and has them told.

It happens when the last event's next one does, at `now`, and says nothing else. Models append it themselves, behind
whatever they are handed: so requests, versions' inputs and what a cache knows of a user are the same for all.
"""

from dataclasses import replace

import torch
from torch import Tensor

from footfall.contract import PADDING_INDEX, UNKNOWN_GAP
from footfall_models.inputs import PackedInputs

MASK_INDEX = -1
"""In place of a hidden event's item. Its action is PADDING_INDEX, its wait UNKNOWN_GAP, its next time its own."""

Events = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""item, action, gap, wait [...] and time [..., 2] (see PackedInputs)."""


def append_packed(inputs: PackedInputs) -> PackedInputs:
    """`inputs` with a mask behind each history; of one without events it means nothing."""
    number = torch.arange(len(inputs.offsets), device=inputs.offsets.device)
    offsets = inputs.offsets + number
    is_mask = torch.zeros(len(inputs.item) + len(number) - 1, dtype=torch.bool, device=number.device)
    is_mask[offsets[1:] - 1] = True
    # Of an event itself, of a mask the last event.
    source = (torch.arange(len(is_mask), device=number.device) - is_mask.cumsum(0)).clamp(min=0)
    events = (inputs.item, inputs.action, inputs.gap, inputs.wait, inputs.time)
    item, action, gap, wait, time = _hide(is_mask, *(column[source] for column in events))
    position = inputs.position[source] + is_mask
    return replace(
        inputs, item=item, action=action, gap=gap, wait=wait, time=time, position=position, offsets=offsets
    )


def append_padded(events: Events, length: Tensor) -> tuple[Events, Tensor]:
    """Of histories [users, length] filled from the left and the events of each [users, 1]: one more of all."""
    *columns, time = events
    place = torch.arange(time.shape[1] + 1, device=time.device)
    is_mask = place == length
    source = (place - is_mask.long()).clamp(0, time.shape[1] - 1)
    item, action, gap, wait = (column.gather(1, source) for column in columns)
    time = time.gather(1, source.unsqueeze(-1).expand(-1, -1, 2))
    return _hide(is_mask, item, action, gap, wait, time), length + 1


def _hide(is_mask: Tensor, item: Tensor, action: Tensor, gap: Tensor, wait: Tensor, time: Tensor) -> Events:
    """Of copies of last events, the masks behind them."""
    happened, looks_back = time.unbind(-1)
    return (
        item.masked_fill(is_mask, MASK_INDEX),
        action.masked_fill(is_mask, PADDING_INDEX),
        torch.where(is_mask, wait, gap),
        wait.masked_fill(is_mask, UNKNOWN_GAP),
        torch.stack([torch.where(is_mask, looks_back, happened), looks_back], -1),
    )
