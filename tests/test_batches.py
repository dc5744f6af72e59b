"""Batches: every event is learnt once, in an order that the seed alone decides."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.errors import InputError
from footfall.history import Histories
from footfall_training.batches import Windows


def histories(lengths: list[int]) -> Histories:
    total = sum(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    item = np.arange(1, total + 1, dtype=np.int32)
    return Histories(item, np.ones(total, np.uint8), np.arange(total, dtype=np.int64) * 1000 + 1, offsets)


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda x: max(x) > 1))
def test_every_event_but_a_users_first_is_a_target_exactly_once(lengths: list[int]) -> None:
    data = histories(lengths)
    windows = Windows.cut(data, np.array(lengths), max_length=7)
    seen: Counter[int] = Counter()
    for batch in windows.epoch(batch_size=3, seed=1, epoch=0):
        assert batch.inputs.offsets.diff().max() <= 7
        assert batch.inputs.offsets.diff().min() >= 1
        assert (batch.next_item - batch.inputs.item == 1).all()
        seen.update(batch.next_item.tolist())
    firsts = {int(start) + 1 for start in data.offsets[:-1]}
    assert seen == Counter(set(range(1, data.num_events + 1)) - firsts)
    assert windows.num_targets == sum(seen.values())


def test_held_out_events_are_in_no_window() -> None:
    windows = Windows.cut(histories([10]), np.array([6]), max_length=50)
    (batch,) = windows.epoch(batch_size=8, seed=0, epoch=0)
    assert batch.next_item.tolist() == [2, 3, 4, 5, 6]


def test_the_order_depends_on_seed_and_epoch_alone_and_skipping_resumes_it() -> None:
    windows = Windows.cut(histories([9] * 40), np.array([9] * 40), max_length=4)

    def order(seed: int, epoch: int, skip: int = 0) -> list[list[int]]:
        return [batch.next_item.tolist() for batch in windows.epoch(4, seed, epoch, skip)]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order(1, 2, skip=3) == order(1, 2)[3:]


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(InputError, match="no user has two training events"):
        Windows.cut(histories([1, 1]), np.array([1, 1]), max_length=5)
