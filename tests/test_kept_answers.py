"""KeptAnswers: what it gives is what its engine would compute, for as long as that is so, in bounded memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import make_checkpoint

from footfall.contract import ANEW_USER, UNKNOWN_TIME
from footfall.history import Histories, model_input
from footfall_data.dataset import Dataset
from footfall_engines.batch import NOBODY, Batch, IndexLists, Scores
from footfall_engines.engine import Engine, load_engine
from footfall_engines.kept_answers import KeptAnswers
from footfall_engines.repository import Repository
from footfall_export.export import export
from footfall_export.options import ExportOptions

START_MS = 1_700_000_000_000
PLENTY = 1 << 24


@pytest.fixture(scope="module", params=["softmax", "hstu"])
def engine(
    request: pytest.FixtureRequest,
    dataset: Dataset,
    tiny_repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Engine:
    if request.param == "softmax":
        return load_engine(Repository(tiny_repository).version(1))
    folder = tmp_path_factory.mktemp("kept")
    checkpoint = make_checkpoint(folder / "checkpoint", dataset, 0, encoder=request.param)
    export(checkpoint, folder / "repository", ExportOptions())
    return load_engine(Repository(folder / "repository").version(1))


def asked(
    *items: list[int], now: int = UNKNOWN_TIME, top_k: int = 10, user: bytes = NOBODY, exclude: bool = True
) -> Batch:
    """One history a list, an event every 100 s."""
    offsets = np.cumsum([0, *map(len, items)])
    item = np.array([one for history in items for one in history], dtype=np.int32)
    time = np.concatenate([START_MS + 100_000 * np.arange(len(history)) for history in items])
    histories = Histories(item, np.ones(len(item), np.uint8), time.astype(np.int64), offsets)
    excluded = [np.unique(np.array(history if exclude else [], np.int32)) for history in items]
    nobody = IndexLists.of([np.zeros(0, np.int32)] * len(items))
    inputs = model_input(histories, np.full(len(items), now), 20)
    return Batch(inputs, IndexLists.of(excluded), nobody, (user,) * len(items), top_k)


def assert_alike(got: Scores, expected: Scores) -> None:
    assert list(got.outputs) == list(expected.outputs)
    for name, values in expected.outputs.items():
        assert got.outputs[name].dtype == values.dtype
        np.testing.assert_allclose(got.outputs[name], values, atol=1e-5, err_msg=name)


def test_what_was_asked_before_is_answered_the_same_and_not_computed(engine: Engine) -> None:
    kept = KeptAnswers(engine, PLENTY)
    batch = asked([1, 2, 3], [4, 5], [])
    first = kept.score(batch)
    assert kept.cached_events == 0
    assert_alike(kept.score(batch), first)
    assert kept.cached_events == 5
    for other in (
        asked([1, 2, 3], [4, 5, 6], [7], []),  # some of them known
        asked([1, 2, 3], [4, 5], top_k=5),  # of a longer list the beginning
        asked([1, 2, 3], [4, 5], top_k=20),
        asked([1, 2, 3], [4, 5], exclude=False),
    ):
        assert_alike(kept.score(other), engine.score(other))


def test_the_order_and_the_border_of_what_is_asked_count(engine: Engine) -> None:
    kept = KeptAnswers(engine, PLENTY)
    kept.score(asked([1, 2, 3]))
    for other in ([3, 2, 1], [1, 2], [2, 3]):
        kept.score(asked(other))
    excluded = IndexLists.of([np.array([1, 2], np.int32)])
    candidate = IndexLists.of([np.array([3], np.int32)])
    history = asked([1, 2, 3]).history
    kept.score(Batch(history, excluded, candidate, (NOBODY,), 10))
    moved = IndexLists.of([np.array([1], np.int32)]), IndexLists.of([np.array([2, 3], np.int32)])
    kept.score(Batch(history, *moved, (NOBODY,), 10))
    assert kept.cached_events == 0


def test_an_answer_holds_only_while_the_model_sees_the_same_moment(engine: Engine) -> None:
    kept, history = KeptAnswers(engine, PLENTY), [1, 2, 3, 4, 5]
    last = START_MS + 400_000
    moments = [last + 1000 * second for second in (0, 1, 2, 3, 90, 127, 128, 150, 250, 300, 1000, 40_000)]
    vectors = []
    for now in moments:
        computed = engine.score(asked(history, now=now))
        assert_alike(kept.score(asked(history, now=now)), computed)
        vectors.append(computed.user_vector.tobytes())
    assert 0 < kept.cached_events < 5 * len(moments)
    assert len(set(vectors)) > 3  # `now` does change what is answered


def test_who_tries_whether_a_server_computes_is_answered_anew(engine: Engine) -> None:
    kept = KeptAnswers(engine, PLENTY)
    for _ in range(3):
        kept.score(asked([1, 2, 3], user=ANEW_USER))
    assert (kept.cached_events, kept.num_bytes) == (0, 0)


def test_memory_is_bounded_and_the_last_asked_stay(engine: Engine) -> None:
    tracemalloc.start()
    try:
        kept = KeptAnswers(engine, 1 << 17)
        for first in range(1, 11):
            kept.score(asked(*([first, second] for second in range(1, 41)), [7]))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert (1 << 16) < kept.num_bytes <= 1 << 17
    assert held < 1.25 * kept.num_bytes
    assert kept.cached_events == 9
