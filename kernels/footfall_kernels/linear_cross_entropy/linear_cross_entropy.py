"""linear_cross_entropy: the next-item loss over a large catalogue, without the [tokens, items] matrix of logits."""

from typing import Any

import torch
from torch import Tensor

from footfall.contract import PADDING_INDEX
from footfall.errors import InputError
from footfall_kernels.checks import FLOATS, check_implementation, check_tensor, check_width
from footfall_kernels.linear_cross_entropy.reference import linear_cross_entropy_reference


def linear_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    target: Tensor,
    *,
    implementation: str,
    negative: Tensor | None = None,
    log_q: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy [] of `target` under the logits hidden @ table.T, in nats; fp32.

    hidden [tokens, width] and table [num_items + 1, width], both fp32, fp16 or bf16; target int64 [tokens], items
    1 to num_items: row 0 of the table is padding and never scores. Gradients go to hidden and table. "triton" takes
    a width of at most 256.

    Full softmax over all items, or, given `negative` int64 [samples], sampled softmax over each token's target and
    these shared negatives; a negative that is the token's target is left out. log_q float [num_items + 1], the log
    of each item's expected count in a draw of that size, is subtracted from the logits of negatives. The target is
    there for certain, not by the draw, so it alone is not corrected (Khrylchenko et al., arXiv 2507.09331): more
    negatives tend to the full softmax.

    Memory does not depend on the size of the catalogue, beyond the table's gradient. The gradient by hidden is
    taken in the forward pass (Liger-Kernel, arXiv 2410.10989; as attention with the table as keys and values,
    arXiv 2205.14135).

    Raises InputError for shapes, dtypes or devices that do not fit, for no tokens, and by "reference" for a target
    or negative outside 1..num_items. "triton" does not read indices back from the GPU: such a target makes the loss
    nan, such a negative is torch's own indexing error.
    """
    check_implementation(implementation, hidden, table, target)
    check_tensor("hidden", hidden, (None, None), FLOATS)
    check_tensor("table", table, (None, hidden.shape[1]), (hidden.dtype,), hidden)
    check_tensor("target", target, (hidden.shape[0],), (torch.int64,), hidden)
    if hidden.shape[0] == 0:
        raise InputError("hidden has no tokens, and a mean of nothing is not a loss")
    if table.shape[0] <= PADDING_INDEX + 1:
        raise InputError(f"table has {table.shape[0]} rows, expected the padding row and at least one item")
    if negative is not None:
        check_tensor("negative", negative, (None,), (torch.int64,), hidden)
        if negative.shape[0] == 0:
            raise InputError("negative is empty; leave it out for the full softmax")
    if log_q is not None:
        check_tensor("log_q", log_q, (table.shape[0],), (*FLOATS, torch.float64), hidden)
        if negative is None:
            raise InputError("log_q corrects sampled negatives, but there is no negative")
    check_width("hidden", hidden, implementation)
    gradients = torch.is_grad_enabled() and (hidden.requires_grad or table.requires_grad)
    loss: Tensor = _forward(hidden, table, target, negative, log_q, implementation, gradients)[0]
    return loss


@torch.library.custom_op("footfall::linear_cross_entropy", mutates_args=())
def _forward(
    hidden: Tensor,
    table: Tensor,
    target: Tensor,
    negative: Tensor | None,
    log_q: Tensor | None,
    implementation: str,
    gradients: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss [], gradient by hidden, and what the table's gradient needs.

    That is, for "reference", the gradient itself, and for "triton" the `softmax` [2, tokens] of its forward pass.
    Both are empty without `gradients`.
    """
    if implementation == "reference":
        return linear_cross_entropy_reference(hidden, table, target, negative, log_q, gradients)
    from footfall_kernels.linear_cross_entropy import launcher as kernels

    return kernels.forward(hidden, table, target, negative, log_q, gradients)


@_forward.register_fake
def _(
    hidden: Tensor,
    table: Tensor,
    target: Tensor,
    negative: Tensor | None,
    log_q: Tensor | None,
    implementation: str,
    gradients: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    loss = hidden.new_empty((), dtype=torch.float32)
    if not gradients:
        return loss, hidden.new_empty(0), table.new_empty(0)
    for_table = (
        table.new_empty(table.shape)
        if implementation == "reference"
        else hidden.new_empty((2, hidden.shape[0]), dtype=torch.float32)
    )
    return loss, hidden.new_empty(hidden.shape), for_table


@torch.library.custom_op("footfall::linear_cross_entropy_backward", mutates_args=())
def _backward(
    grad: Tensor,
    hidden: Tensor,
    table: Tensor,
    target: Tensor,
    negative: Tensor | None,
    log_q: Tensor | None,
    grad_hidden: Tensor,
    for_table: Tensor,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    if implementation == "reference":
        return grad_hidden * grad, for_table * grad
    from footfall_kernels.linear_cross_entropy import launcher as kernels

    scale = grad / hidden.shape[0]
    by_table = kernels.table_gradient(scale, hidden, table, target, negative, log_q, for_table)
    return (grad_hidden * scale).to(hidden.dtype), by_table


@_backward.register_fake
def _(
    grad: Tensor,
    hidden: Tensor,
    table: Tensor,
    target: Tensor,
    negative: Tensor | None,
    log_q: Tensor | None,
    grad_hidden: Tensor,
    for_table: Tensor,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    return hidden.new_empty(hidden.shape), table.new_empty(table.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, table, target, negative, log_q, ctx.implementation, _ = inputs
    _, grad_hidden, for_table = output
    ctx.mark_non_differentiable(grad_hidden, for_table)
    ctx.save_for_backward(hidden, table, target, negative, log_q, grad_hidden, for_table)


def _differentiate(ctx: Any, grad: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
    by_hidden, by_table = _backward(grad, *ctx.saved_tensors, ctx.implementation)
    return by_hidden, by_table, None, None, None, None, None


torch.library.register_autograd(_forward, _differentiate, setup_context=_save)
