"""Losses of the two heads; none builds the [events, items] matrix of logits whole."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from footfall.contract import PADDING_INDEX

CHUNK_LOGITS = 1 << 21
"""Logits held at once: 8 MiB in fp32."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy over hidden @ table.T, its gradients taken in the forward pass, chunk by chunk.

    The idea is Liger-Kernel's fused linear cross-entropy (arXiv 2410.10989): three matrix products a chunk,
    memory independent of the number of events.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, target: Tensor) -> Tensor:
        count = len(target)
        grad_hidden = torch.empty_like(hidden)
        grad_table = torch.zeros_like(table)
        loss = hidden.new_zeros(())
        chunk = max(CHUNK_LOGITS // len(table), 1)
        for start in range(0, count, chunk):
            rows = slice(start, start + chunk)
            logits = hidden[rows] @ table.T
            logits[:, PADDING_INDEX] = -torch.inf
            log_sum = logits.logsumexp(dim=1, keepdim=True)
            picked = target[rows].unsqueeze(1)
            loss += (log_sum - logits.gather(1, picked)).sum()
            grad_logits = logits.sub_(log_sum).exp_()
            grad_logits.scatter_add_(1, picked, grad_logits.new_full(picked.shape, -1.0))
            torch.mm(grad_logits, table, out=grad_hidden[rows])
            grad_table.addmm_(grad_logits.T, hidden[rows])
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
    size (Bengio and Senecal, 2008; Yi et al., RecSys 2019). A negative that is the row's target is left out.
    """
    positive = (hidden * table[target]).sum(dim=1, keepdim=True) - log_q[target].unsqueeze(1)
    others = hidden @ table[negative].T - log_q[negative]
    others = others.masked_fill(negative == target.unsqueeze(1), -torch.inf)
    logits = torch.cat([positive, others], dim=1)
    return functional.cross_entropy(logits, logits.new_zeros(len(target), dtype=torch.long))


def action_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of the next action; target int64 [events], action index >= 1."""
    return functional.cross_entropy(logits, target - 1)
