"""Calibration: make the action head's probabilities agree with how often actions really come next."""

import torch
from torch import Tensor
from torch.nn import functional

from footfall_kernels.implementations import ImplementationName
from footfall_models.model import SequenceModel
from footfall_training.evaluation.ranking import Targets
from footfall_training.evaluation.scorer import ModelScorer

PRIOR_WEIGHT = 1e-3
"""Pulls scale to 1 and bias to 0, so that a rare action's fit cannot run away."""


def calibrate(
    model: SequenceModel, targets: Targets, device: torch.device, implementation: ImplementationName
) -> None:
    """Fit one scale and one bias an action on validation targets (vector scaling, Guo et al., arXiv 1706.04599).

    Sets the buffers action_scale and action_bias.
    """
    hidden = ModelScorer(model, device, implementation).hidden(targets.histories)
    target = torch.from_numpy(targets.next_action.astype("int64") - 1).to(device)
    with torch.no_grad():
        logits = model.action_head(hidden.clone())
    scale, bias = _fit(logits, target)
    model.action_scale.copy_(scale)
    model.action_bias.copy_(bias)


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
