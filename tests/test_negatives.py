"""Negatives: drawn from a mixture, and corrected by the mixture's own probabilities."""

import numpy as np
import pytest
import torch

from footfall_training.negatives import UNIFORM_SHARE, Negatives


def test_a_draw_holds_each_item_as_often_as_its_expected_count_says() -> None:
    torch.manual_seed(0)
    count = np.array([0, 100, 10, 1, 0, 0])
    negatives = Negatives(count, 200_000)
    expected = negatives.log_expected[1:].exp()
    found = torch.bincount(negatives.draw(), minlength=6)
    assert found[0] == 0
    assert (found[1:] - expected).abs().max() < 4 * expected.max().sqrt()
    assert torch.isclose(expected.sum(), torch.tensor(200_000.0))


def test_an_item_without_events_is_drawn_too() -> None:
    torch.manual_seed(0)
    draw = Negatives(np.array([0, 1_000_000, 0]), 10_000).draw()
    assert (draw == 2).sum().item() == pytest.approx(10_000 * UNIFORM_SHARE / 2, rel=0.2)


def test_the_corrected_sampled_loss_tends_to_the_full_softmax() -> None:
    torch.manual_seed(0)
    count = np.concatenate([[0], np.arange(50)])
    logits = torch.randn(51).double()
    logits[0] = -torch.inf
    negatives = Negatives(count, 400_000)
    negative = negatives.draw()
    corrected = logits[negative] - negatives.log_expected[negative]
    full = torch.logsumexp(logits, 0)
    assert torch.isclose(torch.logsumexp(corrected, 0), full, atol=0.02)
    popularity = count**0.75
    log_popular = torch.from_numpy(np.log(popularity / popularity.sum() * 400_000 + 1e-9))
    wrong = logits[negative] - log_popular[negative]  # by the log q of the popularity's part alone
    assert (torch.logsumexp(wrong, 0) - full).abs() > 0.1


def test_a_catalogue_beyond_2_to_the_24_items_is_drawn_from_to_its_end() -> None:
    torch.manual_seed(0)
    num_items = 2**24 + 5
    count = np.zeros(num_items + 1, dtype=np.int64)
    count[num_items - 1 :] = 1  # all of the popularity lies in the last two
    draw = Negatives(count, 4000).draw()
    assert draw.min() >= 1
    assert draw.max() == num_items
    last = [(draw == item).sum().item() for item in (num_items - 1, num_items)]
    assert last == pytest.approx([4000 * (1 - UNIFORM_SHARE) / 2] * 2, rel=0.1)
    evenly = draw[draw < num_items - 1]
    assert abs(evenly.double().mean() / num_items - 0.5) < 0.06
