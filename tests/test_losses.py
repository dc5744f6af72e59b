"""The losses against their definitions, gradients too."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from footfall_training import losses


def problem(num_events: int = 37, num_items: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(num_events, 8, dtype=torch.float64, requires_grad=True)
    table = torch.randn(num_items + 1, 8, dtype=torch.float64, requires_grad=True)
    return hidden, table, torch.randint(1, num_items + 1, (num_events,))


@pytest.mark.parametrize("chunk_logits", [60, 500, 1 << 20])
def test_the_chunked_softmax_is_cross_entropy_in_value_and_gradients(
    monkeypatch: pytest.MonkeyPatch, chunk_logits: int
) -> None:
    monkeypatch.setattr(losses, "CHUNK_LOGITS", chunk_logits)
    monkeypatch.setattr(losses, "MIN_CHUNK_EVENTS", 1)
    hidden, table, target = problem()
    loss = 3 * losses.full_softmax(hidden, table, target)
    grads = torch.autograd.grad(loss, (hidden, table))
    expected = 3 * functional.cross_entropy(hidden @ table[1:].T, target - 1)
    expected_grads = torch.autograd.grad(expected, (hidden, table))
    torch.testing.assert_close(loss, expected)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad)


def test_sampled_softmax_over_every_item_once_is_the_full_softmax() -> None:
    hidden, table, target = problem()
    everything = torch.arange(1, 51)
    sampled = losses.sampled_softmax(hidden, table, target, everything, torch.zeros(51, dtype=torch.float64))
    torch.testing.assert_close(sampled, losses.full_softmax(hidden, table, target))


def test_sampled_softmax_tends_to_the_full_softmax_however_unevenly_items_are_drawn() -> None:
    hidden, table, target = problem()
    share = torch.rand(51, dtype=torch.float64)
    share[0] = 0
    share /= share.sum()
    torch.manual_seed(1)
    negative = torch.multinomial(share, 200_000, replacement=True)
    sampled = losses.sampled_softmax(hidden, table, target, negative, torch.log(share * len(negative)))
    torch.testing.assert_close(sampled, losses.full_softmax(hidden, table, target), atol=0.02, rtol=0)


def test_the_action_loss_takes_indices_that_start_at_1() -> None:
    logits = torch.tensor([[0.0, 5.0], [5.0, 0.0]])
    assert losses.action_loss(logits, torch.tensor([2, 1])) < 0.01
