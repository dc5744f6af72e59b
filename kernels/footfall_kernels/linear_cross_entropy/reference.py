"""Definition of `linear_cross_entropy` in torch: what a CPU runs."""

import torch
from torch import Tensor

from footfall.contract import PADDING_INDEX
from footfall.errors import InputError

CHUNK_LOGITS = 1 << 20
"""Logits held at once, 4 MiB in fp32: 30 ms, 35 at twice that (834 events, 12,101 items, width 64, 2 cores)."""
MIN_CHUNK_TOKENS = 64
"""Tokens a chunk has at least, however large the catalogue: fewer make the matrix products thin and slow."""


def linear_cross_entropy_reference(
    hidden: Tensor,
    table: Tensor,
    target: Tensor,
    negative: Tensor | None,
    log_q: Tensor | None,
    gradients: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean loss [] and, where `gradients`, its gradients by hidden and by table (empty tensors otherwise).

    The gradients are taken in the forward pass, chunk by chunk: Liger-Kernel's fused linear cross-entropy (arXiv
    2410.10989), three matrix products a chunk, memory independent of the number of tokens. The exponentials are
    never normalised: the sums divide the narrow sides of the products instead, which saves two passes over the
    logits. Half-precision inputs are worked on in fp32.
    """
    _check_items("target", target, table)
    dtype = hidden.dtype
    hidden, table = _at_least_fp32(hidden), _at_least_fp32(table)
    if negative is None:
        rows = table[PADDING_INDEX + 1 :]
    else:
        _check_items("negative", negative, table)
        rows = table[negative]
    correction = None if negative is None or log_q is None else log_q[negative].to(table.dtype)
    positive = (hidden * table[target]).sum(dim=1, keepdim=True)
    grad_hidden = hidden.new_empty(hidden.shape) if gradients else hidden.new_empty(0)
    grad_table = table.new_zeros(table.shape) if gradients else table.new_empty(0)
    grad_rows = grad_table[PADDING_INDEX + 1 :] if negative is None else torch.zeros_like(rows)
    pull = torch.full_like(positive, -1.0)
    loss = hidden.new_zeros(())
    chunk = max(CHUNK_LOGITS // len(rows), MIN_CHUNK_TOKENS)
    for start in range(0, len(target), chunk):
        part = slice(start, start + chunk)
        logits = hidden[part] @ rows.T
        if correction is not None:
            logits -= correction
        if negative is not None:
            logits.masked_fill_(negative == target[part].unsqueeze(1), -torch.inf)
        largest = logits.amax(dim=1, keepdim=True)
        if negative is not None:
            largest = torch.maximum(largest, positive[part])
        exponential = logits.sub_(largest).exp_()
        total = exponential.sum(dim=1, keepdim=True)
        if negative is not None:
            positive_exponential = (positive[part] - largest).exp_()
            total += positive_exponential
            pull[part] += positive_exponential / total
        loss += (total.log() + largest - positive[part]).sum()
        if gradients:
            grad_hidden[part] = (exponential @ rows).div_(total)
            grad_rows.addmm_(exponential.T, hidden[part] / total)
    count = len(target)
    if gradients:
        grad_hidden.addcmul_(table[target], pull)
        grad_table.index_add_(0, target, hidden * pull)
        if negative is not None:
            grad_table.index_add_(0, negative, grad_rows)
        grad_hidden.div_(count)
        grad_table.div_(count)
    return (
        loss.float() / count if dtype.itemsize < 4 else loss / count,
        grad_hidden.to(dtype),
        grad_table.to(dtype),
    )


def _at_least_fp32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def _check_items(name: str, items: Tensor, table: Tensor) -> None:
    """Raises InputError for an index that is not one of the table's items."""
    least, most = (int(bound) for bound in items.aminmax())
    if least <= PADDING_INDEX or most >= len(table):
        wrong = least if least <= PADDING_INDEX else most
        raise InputError(f"{name} holds {wrong}, but items are {PADDING_INDEX + 1} to {len(table) - 1}")
