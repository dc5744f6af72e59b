"""PackedInputs: what a model reads of several users, as tensors."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footfall.history import ModelInput


@dataclass(frozen=True)
class PackedInputs:
    """A ModelInput on a device: item, action, gap, wait, position int64 [events], time int32 [events, 2] in seconds,
    offsets int64 [users + 1].

    `position` is an event's place in its history, from 0; `time` when it happened and when the next one did, from
    which it looks back.
    """

    item: Tensor
    action: Tensor
    gap: Tensor
    wait: Tensor
    position: Tensor
    time: Tensor
    offsets: Tensor

    @classmethod
    def of(
        cls, inputs: ModelInput, device: torch.device, past: NDArray[np.int64] | int = 0
    ) -> "PackedInputs":
        """past int64 [events]: how many events of the user's history lie before those of `inputs`."""
        place = positions(inputs.offsets) + past
        indices = (inputs.item, inputs.action, inputs.gap, inputs.wait, place)
        item, action, gap, wait, position = (torch.from_numpy(column.astype(np.int64)) for column in indices)
        time = torch.from_numpy(np.stack([inputs.time, inputs.next_time], axis=1))
        return cls(item, action, gap, wait, position, time, torch.from_numpy(inputs.offsets)).to(device)

    def to(self, device: torch.device) -> "PackedInputs":
        return PackedInputs(*(tensor.to(device, non_blocking=True) for tensor in vars(self).values()))


def positions(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of every packed event in its history: int64 [events]."""
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
