"""What the benchmark of serving sends."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from footfall_data.dataset import Dataset

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_a_benchmarked_history_is_a_users_own_with_its_times(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    serve = importlib.import_module("serve")
    times = dataset.histories.time
    starts = serve.stretches(dataset, 30, 256)
    users = np.searchsorted(dataset.histories.offsets, [starts, starts + 29], side="right")
    assert (users[0] == users[1]).all()
    histories = serve.make_histories(dataset, 30)
    assert len(histories) == 256
    for start, history in zip(starts, histories, strict=True):
        sent = [event.time for event in history]
        assert sent == times[start : start + 30].tolist()
        assert sent == sorted(sent)
        assert sent[0] > 0
    assert len({history[0].item for history in histories}) > 10
