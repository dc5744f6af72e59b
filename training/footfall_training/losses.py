"""Losses of the two heads; none builds the [events, items] matrix of logits whole."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from footfall.contract import PADDING_INDEX

CHUNK_LOGITS = 1 << 20
"""Logits held at once, 4 MiB in fp32: 30 ms, 35 at twice that (834 events, 12,101 items, width 64, 2 cores)."""
MIN_CHUNK_EVENTS = 64
"""Events a chunk has at least, however large the catalogue: fewer make the matrix products thin and slow."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy over hidden @ table.T, its gradients taken in the forward pass, chunk by chunk.

    The idea is Liger-Kernel's fused linear cross-entropy (arXiv 2410.10989): three matrix products a chunk,
    memory independent of the number of events. The exponentials are never normalised: the sums divide the
    narrow sides of the products instead, which saves two passes over the logits.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, target: Tensor) -> Tensor:
        grad_hidden = torch.empty_like(hidden)
        grad_table = torch.zeros_like(table)
        loss = hidden.new_zeros(())
        chunk = max(CHUNK_LOGITS // len(table), MIN_CHUNK_EVENTS)
        for start in range(0, len(target), chunk):
            rows = slice(start, start + chunk)
            logits = hidden[rows] @ table.T
            logits[:, PADDING_INDEX] = -torch.inf
            target_logit = logits.gather(1, target[rows].unsqueeze(1))
            largest = logits.amax(dim=1, keepdim=True)
            exponential = logits.sub_(largest).exp_()
            total = exponential.sum(dim=1, keepdim=True)
            loss += (total.log() + largest - target_logit).sum()
            grad_hidden[rows] = (exponential @ table).div_(total)
            grad_table.addmm_(exponential.T, hidden[rows] / total)
        grad_hidden -= table[target]
        grad_table.index_add_(0, target, hidden, alpha=-1)
        count = len(target)
        ctx.save_for_backward(grad_hidden.div_(count), grad_table.div_(count))
        return loss / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,) = grads
        grad_hidden, grad_table = ctx.saved_tensors
        return grad_hidden * grad, grad_table * grad, None


def full_softmax(hidden: Tensor, table: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of `target` int64 [events] among all items; table [num_items + 1, width]."""
    loss: Tensor = _LinearCrossEntropy.apply(hidden, table, target)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax(hidden: Tensor, table: Tensor, target: Tensor, negative: Tensor, log_q: Tensor) -> Tensor:
    """Mean cross-entropy of `target` among itself and shared negatives, corrected for how these were drawn.

    negative int64 [samples]; log_q float [num_items + 1], log of each item's expected count in a draw of that
    size. A negative that is the row's target is left out. The target is there for certain, not by the draw, so
    it alone is not corrected (Khrylchenko et al., arXiv 2507.09331): more negatives tend to the full softmax.
    """
    positive = (hidden * table[target]).sum(dim=1, keepdim=True)
    others = hidden @ table[negative].T - log_q[negative]
    others = others.masked_fill(negative == target.unsqueeze(1), -torch.inf)
    logits = torch.cat([positive, others], dim=1)
    return functional.cross_entropy(logits, logits.new_zeros(len(target), dtype=torch.long))


def action_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of the next action; target int64 [events], action index >= 1."""
    return functional.cross_entropy(logits, target - 1)
