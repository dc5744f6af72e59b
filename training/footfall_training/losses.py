"""Losses of the item list, found by name: how states learn to tell the item that came next from all others."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from footfall_kernels.implementations import ImplementationName
from footfall_kernels.linear_cross_entropy.linear_cross_entropy import linear_cross_entropy
from footfall_training.negatives import Negatives
from footfall_training.options import LossName


@dataclass(frozen=True)
class Choice:
    """What a loss may look at: states [scored, width] and the item table [num_items + 1, width], both of the
    precision that is trained in; the item that came next, int64 [scored]; and where others are drawn from.
    """

    states: Tensor
    table: Tensor
    item: Tensor
    negatives: Negatives
    implementation: ImplementationName


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
        negative=choice.negatives.draw(),
        log_q=choice.negatives.log_expected,
    )


LOSSES: dict[LossName, ItemLoss] = {"full": full, "sampled": sampled}
