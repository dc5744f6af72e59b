"""Losses of the item list: each name is one function, against the same sum written out in plain torch."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional

from footfall_training.losses import LOSSES, Choice
from footfall_training.negatives import Negatives
from footfall_training.options import LossName


def choice() -> Choice:
    torch.manual_seed(0)
    count = np.array([0, 5, 3, 2, 0, 1])
    negatives = Negatives(count, 7)
    item, draw = torch.tensor([1, 2, 5, 1]), negatives.draw()
    states, table = torch.randn(4, 8), torch.randn(6, 8)
    return Choice(states, table, item, "reference", draw, negatives.log_expected)


def test_the_full_loss_is_cross_entropy_over_the_catalogue_without_padding() -> None:
    given = choice()
    expected = functional.cross_entropy(given.states @ given.table[1:].T, given.item - 1)
    torch.testing.assert_close(LOSSES["full"](given), expected)


def test_the_sampled_loss_is_over_the_item_and_one_corrected_draw() -> None:
    given = choice()
    negative, log_q = given.negative, given.log_q
    assert negative is not None and log_q is not None
    others = given.states @ given.table[negative].T - log_q[negative]
    others = others.masked_fill(negative == given.item[:, None], -torch.inf)
    own = (given.states * given.table[given.item]).sum(1, keepdim=True)
    expected = functional.cross_entropy(torch.cat([own, others], 1), torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(LOSSES["sampled"](given), expected)


@pytest.mark.parametrize("name", get_args(LossName))
def test_every_loss_is_found_by_its_name(name: LossName) -> None:
    assert LOSSES[name].__name__ == name
    assert set(LOSSES) == set(get_args(LossName))
