"""Splits of a prepared log, by leave-one-out and by time."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.history import Histories
from footfall_data import splits
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare

histories_strategy = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=8), min_size=1, max_size=8)


@given(times=histories_strategy)
@settings(deadline=None)
def test_splits_equal_their_definition_user_by_user(times: list[list[int]]) -> None:
    packed = np.array([time for user in times for time in sorted(user)], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in times])]).astype(np.int64)
    ones = np.ones(len(packed))
    histories = Histories(ones.astype(np.int32), ones.astype(np.uint8), packed, offsets)
    ordered = sorted(packed.tolist())
    cut, test_cut = ordered[int(len(ordered) * 0.8)], ordered[int(len(ordered) * 0.9)]
    last, by_time = splits.leave_one_out(histories), splits.by_time(histories)
    for user, unordered in enumerate(times):
        of_user = sorted(unordered)
        length = len(of_user)
        expected = (length - 2, length - 2, length - 1) if length >= 3 else (length, -1, -1)
        assert (last.train_end[user], last.validation_at[user], last.test_at[user]) == expected
        before, before_test = sum(t < cut for t in of_user), sum(t < test_cut for t in of_user)
        assert by_time.train_end[user] == before
        assert by_time.validation_at[user] == (before if 0 < before < before_test else -1)
        assert by_time.test_at[user] == (before_test if 0 < before_test < length else -1)


def test_the_stored_splits_are_those_of_the_histories(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    events = "".join(f"u{at % 7 * at % 5},i{at % 9},{1_700_000_000 + at}\n" for at in range(1, 300))
    path.write_text(f"user_id,item_id,timestamp\n{events}")
    prepare([path], tmp_path / "dataset", PrepareOptions())
    dataset = Dataset.open(tmp_path / "dataset")
    for name, made in (("leave_one_out", splits.leave_one_out), ("time", splits.by_time)):
        stored, expected = dataset.split(name), made(dataset.histories)  # type: ignore[arg-type]
        assert stored.train_end.tolist() == expected.train_end.tolist()
        assert stored.validation_at.tolist() == expected.validation_at.tolist()
        assert stored.test_at.tolist() == expected.test_at.tolist()
        assert dataset.report["splits"][name]["test_users"] == (expected.test_at >= 0).sum()
