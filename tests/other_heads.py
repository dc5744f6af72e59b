"""A head beside the action head: it shows what the seam is for, and is nobody's to train with."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from footfall.contract import Tensor as ContractTensor
from footfall.history import Histories
from footfall_models.config import ModelConfig
from footfall_models.heads.head import Head, NextEvents

ODD_PROBABILITY = ContractTensor("odd_probability", "FP32", (1,))


class OddHead(Head):
    """The probability that the next item's index is odd."""

    shift: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__([0.5])
        self.linear = nn.Linear(config.width, 1)
        self.register_buffer("shift", torch.zeros(1))

    def loss(self, states: Tensor, following: NextEvents) -> Tensor:
        odd = (following.item % 2).float().unsqueeze(-1)
        return functional.binary_cross_entropy_with_logits(self.linear(states).float(), odd)

    def describe(self, states: Tensor) -> Tensor:
        return torch.sigmoid((self.linear(states) + self.shift).float())

    def set_prior(self, training: Histories) -> None:
        self.prior.fill_(float(np.mean(training.item % 2)))

    def calibrate(self, states: Tensor, following: NextEvents) -> None:
        self.shift.fill_(0.25)
