"""Losses of the item list, found by name: how states learn to tell the item that came next from all others."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from footfall_kernels.implementations import ImplementationName
from footfall_kernels.linear_cross_entropy.linear_cross_entropy import linear_cross_entropy
from footfall_training.options import LossName


@dataclass(frozen=True)
class Choice:
    """What a loss may look at: states [scored, width] and rows of the item table [rows, width], padding the first,
    both of the precision that is trained in; and as places among the rows, the item that came next, int64 [scored].

    For a loss that DRAWS also those drawn for the batch, int64 [negatives], and log_q fp32 [rows], the log of each
    row's expected count in a draw; its rows are those of the batch and the draw alone, not of the whole catalogue.
    """

    states: Tensor
    table: Tensor
    item: Tensor
    implementation: ImplementationName
    negative: Tensor | None = None
    log_q: Tensor | None = None


ItemLoss = Callable[[Choice], Tensor]
"""The mean over the states, a scalar."""


def full(choice: Choice) -> Tensor:
    """Softmax over the whole catalogue."""
    return linear_cross_entropy(
        choice.states, choice.table, choice.item, implementation=choice.implementation
    )


def sampled(choice: Choice) -> Tensor:
    """Softmax over the item and one draw of negatives for the whole batch, corrected by its log q."""
    return linear_cross_entropy(
        choice.states,
        choice.table,
        choice.item,
        implementation=choice.implementation,
        negative=choice.negative,
        log_q=choice.log_q,
    )


LOSSES: dict[LossName, ItemLoss] = {"full": full, "sampled": sampled}
DRAWS: frozenset[LossName] = frozenset({"sampled"})
"""Those that compare with drawn items alone."""
