"""Head: what every part of a model says of itself that describes a state."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from footfall.history import Histories


@dataclass(frozen=True)
class NextEvents:
    """What came after each of some states: int64 [states] each."""

    item: Tensor
    action: Tensor


class Head(nn.Module):
    """Says one thing of a state, beside the items: contract.HEADS has its tensor, of `size` numbers a state.

    `prior` [size]: what it says of an empty history.
    """

    prior: Tensor

    def __init__(self, prior: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("prior", torch.tensor(prior))

    def loss(self, states: Tensor, following: NextEvents) -> Tensor:
        """The mean over `states` [states, width]."""
        raise NotImplementedError

    def describe(self, states: Tensor) -> Tensor:
        """fp32 [..., size] of states [..., width]."""
        raise NotImplementedError

    def set_prior(self, training: Histories) -> None:
        """From the histories that the model was trained on."""
        raise NotImplementedError

    def calibrate(self, states: Tensor, following: NextEvents) -> None:
        """After training, on events that it has not seen: make what is said agree with what happens."""
        raise NotImplementedError
