"""Batches: every event is learnt once, in an order that the seed alone decides."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.errors import InputError
from footfall.history import Histories
from footfall_models.encoders.softmax import SoftmaxEncoder
from footfall_training.batches import Windows
from footfall_training.objectives import find_objective


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


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(lambda x: max(x) > 1))
def test_of_prefixes_every_target_has_a_row_with_all_of_the_past_that_is_read(lengths: list[int]) -> None:
    data = histories(lengths)
    windows = Windows.cut(data, np.array(lengths), 7, find_objective("prefixes", SoftmaxEncoder))
    rows: list[tuple[int, ...]] = []
    for batch in windows.epoch(batch_size=3, seed=1, epoch=0):
        assert batch.scored is not None
        assert batch.scored.tolist() == (batch.inputs.offsets[1:] - 1).tolist()
        read = np.split(batch.inputs.item.numpy(), batch.inputs.offsets[1:-1].numpy())
        rows += [(*row.tolist(), target) for row, target in zip(read, batch.next_item.tolist(), strict=True)]
    expected = [
        tuple(range(max(first, target - 7), target + 1))
        for first, length in zip((data.offsets[:-1] + 1).tolist(), lengths, strict=True)
        for target in range(first + 1, first + length)
    ]
    assert sorted(rows) == expected
    assert windows.num_targets == len(expected)


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


def test_an_event_of_a_short_window_weighs_as_much_as_one_of_a_long_one() -> None:
    lengths = np.array([3] * 400 + [50] * 100)
    windows = Windows.cut(histories(lengths.tolist()), lengths, max_length=50)
    weights: dict[int, list[float]] = {3: [], 50: []}
    for batch in windows.epoch(batch_size=32, seed=0, epoch=0):
        for length in (batch.inputs.offsets.diff() + 1).tolist():
            weights[length].append(1 / len(batch.next_item))  # of each event, in the batch's mean
    assert np.mean(weights[3]) == pytest.approx(np.mean(weights[50]), rel=0.1)
    assert max(weights[3]) < 1.3 * min(weights[50])


@given(
    lengths=st.lists(st.integers(2, 30), min_size=1, max_size=60),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 3),
)
def test_batches_are_as_many_as_announced_and_share_the_targets_evenly(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    windows = Windows.cut(histories(lengths), np.array(lengths), max_length=9)
    sizes = [len(batch.next_item) for batch in windows.epoch(batch_size, seed, epoch=0)]
    assert len(sizes) == windows.num_batches(batch_size)
    assert sum(sizes) == windows.num_targets
    share, longest = windows.num_targets / len(sizes), (windows.end - windows.start - 1).max()
    assert max(sizes) < share + longest
    assert min(sizes) > share - longest
