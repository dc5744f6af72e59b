"""Attention of the last events alone, packed and padded, against the rows of all events' attention."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from footfall_kernels.attention.attention import attention
from footfall_kernels.attention.last import attend_last
from footfall_kernels.attention.padded import attend_last_padded
from footfall_kernels.attention.rules import AttentionRules, Kind

LENGTHS = (7, 0, 1, 30)
HEADS, HEAD_DIM, BUCKETS = 2, 16, 6


def parts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value [total, heads, head_dim] and time int32 [total, 2]."""
    random = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, sum(LENGTHS), HEADS, HEAD_DIM, generator=random)
    time = torch.randint(0, 40, (sum(LENGTHS), 2), generator=random).flatten().cumsum(0).int().view(-1, 2)
    return query, key, value, time


def tables(tabled: bool) -> dict[str, Any]:
    random = torch.Generator().manual_seed(1)
    names = ("position_bias", "time_bias") if tabled else ()
    return {name: torch.randn(HEADS, BUCKETS, generator=random) for name in names}


@pytest.mark.parametrize("tabled", [False, True], ids=["plain", "tables"])
@pytest.mark.parametrize("kind", ["softmax", "silu"])
def test_the_last_events_gather_what_they_gather_among_all(kind: Kind, tabled: bool) -> None:
    query, key, value, time = parts()
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    rules = AttentionRules(kind, 0.3, 10.0 if kind == "silu" else 1.0)
    biases = tables(tabled) | ({"time": time} if tabled else {})
    every = attention(
        query, key, value, offsets, implementation="reference", kind=kind, scale=0.3,
        normaliser=rules.normaliser, max_length=max(LENGTHS), **biases,
    )  # fmt: skip
    last = (offsets[1:] - 1).clamp(min=0)
    expected = every[last] * torch.tensor(LENGTHS).gt(0).view(-1, 1, 1)

    # Rows behind the last offset are nobody's.
    beyond = [torch.cat([column, column[:5]]) for column in (key, value, time)]
    got = attend_last(
        query[last], beyond[0], beyond[1], offsets, rules, **biases | ({"time": beyond[2]} if tabled else {})
    )
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)

    padded_key, padded_value, padded_time = (
        pad_sequence(list(torch.split(column, list(LENGTHS))), batch_first=True, padding_value=9)
        for column in (key, value, time)
    )
    padded = attend_last_padded(
        query[last].unsqueeze(2),
        padded_key.transpose(1, 2),
        padded_value.transpose(1, 2),
        torch.tensor(LENGTHS).unsqueeze(1),
        rules,
        **biases | ({"time": padded_time} if tabled else {}),
    )
    real = torch.tensor(LENGTHS) > 0
    torch.testing.assert_close(padded.squeeze(2)[real], expected[real], atol=1e-6, rtol=1e-5)
