"""Optimizers: AdamW; and, for an item table of which a step touches some rows only, row-wise Adagrad."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from footfall_training.options import TrainOptions

ROW_RATE = 40.0
"""Of row-wise Adagrad, in learning rates of AdamW."""


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad with one sum a row, of its mean squared gradients (FBGEMM's EXACT_ROWWISE_ADAGRAD).

    Takes sparse gradients that hold every row once; a step reads and writes these rows alone.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, eps: float = 1e-10) -> None:
        super().__init__(parameters, {"lr": lr, "eps": eps})
        for parameter in parameters:
            self.state[parameter]["sum"] = parameter.new_zeros(len(parameter), requires_grad=False)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                row, gradient = parameter.grad._indices()[0], parameter.grad._values()
                past = self.state[parameter]["sum"]
                past.index_add_(0, row, gradient.square().mean(dim=1))
                step = gradient / (past[row].sqrt() + group["eps"]).unsqueeze(1)
                parameter.index_add_(0, row, step, alpha=-group["lr"])


class Optimizers:
    """Of all parameters of a model: `rows`, where given, is the item table, whose gradients are sparse."""

    def __init__(self, model: nn.Module, options: TrainOptions, rows: nn.Parameter | None) -> None:
        self._parameters, self._options, rate = list(model.parameters()), options, options.learning_rate
        rest = [parameter for parameter in self._parameters if parameter is not rows]
        self._rates = [rate] if rows is None else [rate, ROW_RATE * rate]
        self._all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, rate, weight_decay=options.weight_decay, fused=True)
        ]
        if rows is not None:
            self._all.append(RowwiseAdagrad([rows], ROW_RATE * rate))

    def zero_grad(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def step(self, share: float) -> Tensor:
        """One update, at this share of the learning rate; the norm of the gradients before they were clipped."""
        norm = self._clip()
        for optimizer, rate in zip(self._all, self._rates, strict=True):
            optimizer.param_groups[0]["lr"] = share * rate
            optimizer.step()
        return norm

    def _clip(self) -> Tensor:
        """As torch.nn.utils.clip_grad_norm_, which takes no sparse gradients."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        values = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
        norm = torch.nn.utils.get_total_norm(values)
        torch._foreach_mul_(values, (self._options.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self._all]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(state)
