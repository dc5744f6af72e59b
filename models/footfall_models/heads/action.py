"""ActionHead: the probability that each action is the next."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from footfall.history import Histories
from footfall_models.config import ModelConfig
from footfall_models.heads.head import Head, NextEvents

PRIOR_WEIGHT = 1e-3
"""Pulls scale to 1 and bias to 0, so that a rare action's fit cannot run away."""


class ActionHead(Head):
    """scale and bias [num_actions] calibrate the logits."""

    scale: Tensor
    bias: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__([1 / config.num_actions] * config.num_actions)
        self.linear = nn.Linear(config.width, config.num_actions)
        self.register_buffer("scale", torch.ones(config.num_actions))
        self.register_buffer("bias", torch.zeros(config.num_actions))

    def logits(self, states: Tensor) -> Tensor:
        """Calibrated: [..., width] -> [..., num_actions]."""
        logits: Tensor = self.linear(states)
        return logits * self.scale + self.bias

    def loss(self, states: Tensor, following: NextEvents) -> Tensor:
        return functional.cross_entropy(self.logits(states), following.action - 1)

    def describe(self, states: Tensor) -> Tensor:
        return functional.softmax(self.logits(states).float(), dim=-1)

    def set_prior(self, training: Histories) -> None:
        """The share of every action, add-one smoothed."""
        count = np.bincount(training.action, minlength=len(self.prior) + 1)[1:] + 1.0
        self.prior.copy_(torch.from_numpy(count / count.sum()))

    def calibrate(self, states: Tensor, following: NextEvents) -> None:
        """Fit one scale and one bias an action (vector scaling, Guo et al., arXiv 1706.04599)."""
        with torch.no_grad():
            logits = self.linear(states)
        scale, bias = _fit(logits, following.action - 1)
        self.scale.copy_(scale)
        self.bias.copy_(bias)


def _fit(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    scale = torch.ones(logits.shape[1], device=logits.device, requires_grad=True)
    bias = torch.zeros(logits.shape[1], device=logits.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        fit = functional.cross_entropy(logits * scale + bias, target)
        loss = fit + PRIOR_WEIGHT * ((scale - 1).square().sum() + bias.square().sum())
        torch.autograd.backward(loss)
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return scale.detach(), bias.detach()
