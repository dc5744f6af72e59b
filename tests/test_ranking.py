"""Ranking the whole catalogue, and the baselines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from footfall.errors import InputError
from footfall.history import Histories
from footfall.metrics import ranking_metrics
from footfall_data.dataset import Dataset
from footfall_data.splits import training_histories
from footfall_training.evaluation import ranking
from footfall_training.evaluation.baselines import Popularity, co_occurrence, item_knn, last_item_neighbour
from footfall_training.evaluation.ranking import Targets, rank_targets


class Fixed:
    """Scores that do not depend on the history; item i's is scores[i]."""

    def __init__(self, scores: list[float]) -> None:
        self._scores = np.array(scores, dtype=np.float32)

    def scores(self, histories: Histories, now: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.repeat(self._scores[None], histories.num_users, axis=0)


def targets(*users: tuple[list[int], int]) -> Targets:
    items = np.array([item for history, _ in users for item in history], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(history) for history, _ in users])]).astype(np.int64)
    packed = Histories(items, np.ones(len(items), np.uint8), np.zeros(len(items), np.int64), offsets)
    now = np.zeros(len(users), np.int64)
    return Targets(
        packed, now, np.array([item for _, item in users], np.int32), np.ones(len(users), np.uint8)
    )


SCORES = [99.0, 5.0, 4.0, 4.0, 1.0]


def test_ties_count_against_the_target_and_padding_counts_not_at_all() -> None:
    ranks = rank_targets(Fixed(SCORES), targets(([4], 1), ([4], 2), ([4], 3)), num_items=4)
    assert ranks.tolist() == [1, 3, 3]


def test_seen_items_leave_the_list_unless_kept() -> None:
    asked = targets(([1, 2], 3))
    assert rank_targets(Fixed(SCORES), asked, 4).tolist() == [1]
    assert rank_targets(Fixed(SCORES), asked, 4, keep_seen=True).tolist() == [3]


def test_a_target_seen_before_cannot_be_found_where_seen_items_are_removed() -> None:
    asked = targets(([1, 2], 1))
    assert rank_targets(Fixed(SCORES), asked, 4).tolist() == [5]
    assert rank_targets(Fixed(SCORES), asked, 4, keep_seen=True).tolist() == [1]


NOT_FINITE = (np.nan, np.inf, -np.inf)


@pytest.mark.parametrize("score", NOT_FINITE)
def test_a_target_whose_score_is_not_finite_ranks_last(score: float) -> None:
    assert rank_targets(Fixed([99.0, 5.0, score, 4.0, 1.0]), targets(([4], 2)), 4).tolist() == [5]
    assert rank_targets(Fixed([99.0, *[score] * 4]), targets(([4], 2)), 4, keep_seen=True).tolist() == [5]


@pytest.mark.parametrize("score", NOT_FINITE)
def test_an_item_whose_score_is_not_finite_is_behind_every_other(score: float) -> None:
    assert rank_targets(Fixed([99.0, 5.0, score, 4.0, 1.0]), targets(([4], 3)), 4).tolist() == [2]


@given(
    st.lists(st.floats(width=32), min_size=2, max_size=6),
    st.integers(1, 5),
    st.lists(st.integers(1, 5), max_size=4),
    st.booleans(),
)
def test_every_rank_is_a_place_in_the_list_or_the_one_after_it(
    scores: list[float], target: int, seen: list[int], keep_seen: bool
) -> None:
    num_items = len(scores) - 1
    target, seen = min(target, num_items), [min(item, num_items) for item in seen]
    ranks = rank_targets(Fixed(scores), targets((seen, target)), num_items, keep_seen=keep_seen)
    assert 1 <= ranks[0] <= num_items + 1
    assert (ranks[0] == num_items + 1) == (
        not np.isfinite(scores[target]) or (target in seen and not keep_seen)
    )
    assert all(0 <= value <= 1 for value in ranking_metrics(ranks).values())


def test_the_batch_size_changes_no_rank(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    num_items = len(dataset.items)
    scorer = Popularity(training_histories(dataset, "leave_one_out"), num_items)
    asked = Targets.of(dataset, "leave_one_out", "test")
    whole = rank_targets(scorer, asked, num_items)
    monkeypatch.setattr(ranking, "BATCH_SCORES", 7 * num_items)
    assert np.array_equal(rank_targets(scorer, asked, num_items), whole)


def test_the_neighbour_of_an_item_is_what_followed_it() -> None:
    training = Histories(
        np.array([1, 2, 1, 2, 3, 1], np.int32),
        np.ones(6, np.uint8),
        np.zeros(6, np.int64),
        np.array([0, 2, 2, 4, 6]),
    )
    asked = targets(([3, 1], 0), ([2], 0), ([3], 0))
    scores = last_item_neighbour(training, num_items=3).scores(asked.histories, asked.now)
    assert scores[0].tolist() == pytest.approx([0, 0, 2 / np.sqrt(3 * 2), 0])
    assert scores[1].tolist() == [0, 0, 0, 0]
    assert scores[2].tolist() == pytest.approx([0, 1 / np.sqrt(3), 0, 0])


def test_co_occurrence_counts_what_came_within_five_events_the_nearer_and_the_later_the_more() -> None:
    training = Histories(
        np.array([1, 2, 3, 1, 3, 4, 4, 4, 4, 4, 2], np.int32),
        np.ones(11, np.uint8),
        np.zeros(11, np.int64),
        np.array([0, 3, 3, 4, 11]),
    )
    asked = targets(([1], 0), ([1, 2], 0), ([], 0))
    scores = co_occurrence(training, num_items=4).scores(asked.histories, asked.now)
    assert scores[0].tolist() == pytest.approx([0, 0, np.log(2), np.log(1.5), 0])
    # 4 stood one to five events before 2, and 3 six, which is too far.
    before_2 = 0.2 * (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5)
    of_1, of_2 = np.log1p([[0, 0, 1, 1 / 2, 0], [0, 0.2, 0, 1, before_2]])
    assert scores[1].tolist() == pytest.approx((0.5 * of_1 + of_2).tolist())
    assert scores[2].tolist() == [0] * 5


def test_item_knn_adds_the_cosines_of_every_item_of_the_history_in_either_order() -> None:
    training = Histories(
        np.array([1, 2, 3, 1, 3, 2], np.int32),
        np.ones(6, np.uint8),
        np.zeros(6, np.int64),
        np.array([0, 2, 4, 6]),
    )
    asked = targets(([1], 0), ([2, 1], 0))
    scores = item_knn(training, num_items=3).scores(asked.histories, asked.now)
    assert scores[0].tolist() == pytest.approx([0, 0, 1 / 2, 1 / 2])
    assert scores[1].tolist() == pytest.approx([0, 1 / 2, 1 / 2, 1 / 2 + 1 / 2])


def test_targets_are_the_events_the_split_holds_out(dataset: Dataset) -> None:
    asked = Targets.of(dataset, "leave_one_out", "test")
    histories = dataset.histories
    users = np.flatnonzero(dataset.split("leave_one_out").test_at > 0)
    last = histories.offsets[1:][users] - 1
    assert np.array_equal(asked.next_item, histories.item[last])
    assert np.array_equal(asked.histories.lengths, histories.lengths[users] - 1)
    assert len(Targets.of(dataset, "leave_one_out", "test", most=10)) == 10


def test_an_unknown_split_is_named(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="unknown split 'random'"):
        Targets.of(dataset, "random", "test")  # type: ignore[arg-type]
