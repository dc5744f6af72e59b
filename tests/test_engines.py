"""Engines against a slow definition of exclusion, candidates, the empty history and the top k."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from footfall.contract import NUM_GAPS, UNKNOWN_INDEX
from footfall.errors import InputError, NotReadyError
from footfall.history import ModelInput
from footfall_data.dataset import Dataset
from footfall_engines.batch import Batch, IndexLists, Scores, padded_inputs
from footfall_engines.engine import Engine, load_engine
from footfall_engines.onnxruntime_engine import OnnxRuntimeEngine, _alike
from footfall_engines.repository import Repository
from footfall_engines.torch_engine import TorchEngine
from footfall_engines.version import Version
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_models.inputs import PackedInputs
from footfall_models.model import SequenceModel
from footfall_training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Ask:
    """What one user asks."""

    item: list[int]
    excluded: list[int]
    candidate: list[int]


@dataclass(frozen=True)
class Answer:
    """Every item's score, -inf where it may not be listed; every action's probability; the user vector."""

    score: NDArray[np.float32]
    probability: NDArray[np.float32]
    vector: NDArray[np.float32]


NUM_ITEMS = 200  # of at least as many in the fixture
UNLISTED = (1, 7, *range(100, 180))
NUM_RAW_ACTIONS, NUM_RAW_GAPS = 9, 60  # more than the model knows
index = st.one_of(st.integers(1, NUM_ITEMS), st.sampled_from([UNKNOWN_INDEX, -1]))
asks = st.lists(
    st.builds(Ask, st.lists(index, max_size=25), st.lists(index, max_size=60), st.lists(index, max_size=9)),
    min_size=1,
    max_size=5,
)


def batch(users: list[Ask]) -> Batch:
    lengths = [len(user.item[-20:]) for user in users]
    item = np.array([index for user in users for index in user.item[-20:]], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    gap, wait = item % NUM_RAW_GAPS, item % 53
    inputs = ModelInput(item, item % NUM_RAW_ACTIONS, gap, wait, item * 7, item * 7 + 100, offsets)
    excluded, candidate = (
        IndexLists.of([np.array(getattr(user, name), dtype=np.int32) for user in users])
        for name in ("excluded", "candidate")
    )
    return Batch(inputs, excluded, candidate)


def slow_answer(model: SequenceModel, user: Ask) -> Answer:
    """Step by step, one event and one item after the other."""
    events = [
        [
            value if 1 <= value <= largest else 0
            for value, largest in (
                (item, model.config.num_items),
                (item % NUM_RAW_ACTIONS, model.config.num_actions),
                (item % NUM_RAW_GAPS, NUM_GAPS - 1),
                (item % 53, NUM_GAPS - 1),
            )
        ]
        for item in user.item[-20:]
    ]
    if events:
        time = np.array(user.item[-20:], dtype=np.int32) * 7
        columns = (*np.array(events, dtype=np.int32).T, time, time + 100)
        inputs = ModelInput.of(columns, np.array([0, len(events)]))
        hidden = model.encode(PackedInputs.of(inputs, torch.device("cpu")), "reference")[-1].detach()
        score = (model.item_table() @ hidden).detach().numpy().copy()
        probability = model.head("action").describe(hidden).detach().numpy()
    else:
        hidden = torch.zeros(model.config.width)
        score, probability = model.item_popularity.numpy().copy(), model.head("action").prior.numpy()
    for place in range(len(score)):
        beside = bool(user.candidate) and place not in user.candidate
        blocked = place in (0, *UNLISTED) or place in user.excluded or beside
        score[place] = -np.inf if blocked else score[place]
    return Answer(score, probability, hidden.numpy())


def check(scores: Scores, row: int, expected: Answer) -> None:
    best = np.sort(expected.score)[::-1][: scores.item_score.shape[1]]
    np.testing.assert_allclose(scores.item_score[row], best, atol=1e-4)
    listed = np.isfinite(best)
    np.testing.assert_allclose(expected.score[scores.item_index[row, listed]], best[listed], atol=1e-4)
    assert (scores.item_index[row, ~listed] == 0).all()
    assert len(set(scores.item_index[row, listed].tolist())) == listed.sum()
    np.testing.assert_allclose(scores.outputs["action_probability"][row], expected.probability, atol=1e-5)
    np.testing.assert_allclose(scores.user_vector[row], expected.vector, atol=1e-4)


@pytest.fixture(scope="module")
def checkpoint(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("c") / "c", dataset, seed=0, unlisted=UNLISTED)


@pytest.fixture(scope="module", params=["onnxruntime", "mapped", "torch"])
def engine(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Engine:
    """mapped: its tables in a file beside the graph, as those of a large catalogue, and few users a run."""
    if request.param == "torch":
        return TorchEngine(Checkpoint.open(checkpoint).load_model(), 100, "fp32", "cpu")
    repository, mapped = tmp_path_factory.mktemp("repository"), request.param == "mapped"
    with pytest.MonkeyPatch.context() as patch:
        if mapped:
            patch.setattr("footfall_export.to_onnx.MAPPED_FROM", 1000)
            patch.setattr("footfall_export.to_onnx.BESIDE_FROM", 1000)
        export(checkpoint, repository, ExportOptions())
    version = Repository(repository).version(1)
    assert ("model.onnx.data" in version.manifest["files"]) == mapped
    loaded = load_engine(version)
    assert isinstance(loaded, OnnxRuntimeEngine)
    return loaded


@pytest.fixture(autouse=True)
def few_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "mapped" in request.node.name:
        monkeypatch.setattr("footfall_engines.onnxruntime_engine.SCORES_AT_ONCE", 2 * NUM_ITEMS)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> SequenceModel:
    return Checkpoint.open(checkpoint).load_model()


@given(users=asks)
@settings(max_examples=60, deadline=None)
def test_every_engine_ranks_as_the_slow_definition_does(
    engine: Engine, model: SequenceModel, users: list[Ask]
) -> None:
    assert model.config.num_items >= NUM_ITEMS
    scores = engine.score(batch(users))
    for row, user in enumerate(users):
        check(scores, row, slow_answer(model, user))


def test_a_users_answer_does_not_depend_on_who_else_is_in_the_batch(engine: Engine) -> None:
    users = [Ask(list(range(1, length + 1)), [5], []) for length in (1, 20, 3, 0, 7)]
    together = engine.score(batch(users))
    for row, user in enumerate(users):
        alone = engine.score(batch([user]))
        np.testing.assert_allclose(together.item_score[row], alone.item_score[0], atol=1e-5)
        np.testing.assert_allclose(together.user_vector[row], alone.user_vector[0], atol=1e-5)


def tied(score: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which places of a list are so close to the next that rounding decides on their order."""
    with np.errstate(invalid="ignore"):  # of -inf, where a list is at its end
        close = np.abs(np.diff(score)) < 1e-4
    either: NDArray[np.bool_] = np.append(False, close) | np.append(close, False)
    return either


def test_a_batch_of_unlike_histories_gives_each_what_it_gets_alone(engine: Engine) -> None:
    """So unlike that ONNX Runtime takes them in two runs."""
    lengths = (1, 20, 0, 1, 20, 2, 20, 0, 1, 1, 1, 20, 1)
    users = [Ask([3 + place] * length, [], []) for place, length in enumerate(lengths)]
    together = engine.score(batch(users)).outputs
    for place, user in enumerate(users):
        for name, values in engine.score(batch([user])).outputs.items():
            told = ~tied(together["item_score"][place]) if name == "item_index" else slice(None)
            np.testing.assert_allclose(
                together[name][place][told], values[0][told], atol=1e-4, err_msg=f"{name} of {place}"
            )


def test_the_longest_histories_go_first_until_padding_costs_more_than_a_run() -> None:
    lengths = np.array([1, 20, 0, 15, 20, 2])
    parts = [part.tolist() for part in _alike(np.arange(6), lengths, cost=20)]
    assert parts == [[1, 4, 3], [5, 0, 2]]
    assert [part.tolist() for part in _alike(np.array([2, 5]), lengths, cost=20)] == [[5, 2]]
    assert list(_alike(np.arange(0), lengths, cost=20)) == []


def test_users_with_candidates_and_without_are_answered_in_one_batch(
    engine: Engine, model: SequenceModel
) -> None:
    users = [
        Ask([4, 5], [4, 5], []),
        Ask([4, 5], [5, 8], [9, 8, 9, UNKNOWN_INDEX, 8, 10, 9, 5]),  # twice, excluded, unknown
        Ask([], [2], []),
        Ask([], [2], [2, 3, 3, 4]),
        Ask([6], list(range(1, NUM_ITEMS + 1)), [9, 10]),  # all excluded
        Ask([6], list(range(1, model.config.num_items + 1)), []),
        Ask([], list(range(1, model.config.num_items + 1)), []),
        Ask([8, 8, 9], [], list(range(1, 130))),  # more than are listed
    ]
    scores = engine.score(batch(users))
    assert scores.item_index.shape == scores.item_score.shape == (len(users), 100)
    for row, user in enumerate(users):
        check(scores, row, slow_answer(model, user))
    listed = np.isfinite(scores.item_score).sum(axis=1)
    assert listed[[1, 3, 4, 5, 6]].tolist() == [2, 2, 0, 0, 0]


def test_a_list_is_no_longer_computed_than_it_is_asked_for(engine: Engine, model: SequenceModel) -> None:
    users = [Ask([4, 5], [4], []), Ask([], [2], []), Ask([8], [9], [9, 11, 12, 13, 14])]
    for asked in (users, users[:1], users[2:]):
        scores = engine.score(replace(batch(asked), top_k=3))
        assert scores.item_index.shape[1] == (100 if isinstance(engine, TorchEngine) else 3)
        for row, user in enumerate(asked):
            check(scores, row, slow_answer(model, user))


def test_candidates_that_are_not_listed_leave_the_answer_as_unknown_ones_do(engine: Engine) -> None:
    for item in ([1, 2], []):
        scores = engine.score(batch([Ask(item, [], [3, 7, UNKNOWN_INDEX, 100])]))
        assert scores.item_index[0, np.isfinite(scores.item_score[0])].tolist() == [3]


def test_candidates_nobody_knows_leave_an_empty_list_not_the_catalogue(engine: Engine) -> None:
    scores = engine.score(batch([Ask([1, 2], [], [UNKNOWN_INDEX])]))
    assert np.isneginf(scores.item_score).all()
    assert (scores.item_index == 0).all()


def test_the_batch_is_padded_to_powers_of_two_and_histories_to_no_more_than_the_model_reads() -> None:
    users = [Ask(list(range(1, 20)), list(range(1, 34)), []), Ask([], [], [3, 4, 5])]
    shapes = {name: array.shape for name, array in padded_inputs(batch(users), max_length=20).items()}
    assert shapes == {
        "history_item": (2, 20),
        "history_action": (2, 20),
        "history_gap": (2, 20),
        "history_wait": (2, 20),
        "history_time": (2, 20),
        "history_next_time": (2, 20),
        "history_length": (2, 1),
        "excluded_index": (2, 64),
        "candidate_index": (2, 4),
    }


def test_the_torch_engine_asked_onto_a_missing_gpu_says_so(model: SequenceModel) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(NotReadyError, match="device cuda:0 asks for a GPU"):
        TorchEngine(model, 100, "fp32", "cuda:0")


def test_an_unknown_engine_is_named(tiny_repository: Path) -> None:
    version = Repository(tiny_repository).version(1)
    with pytest.raises(InputError, match="has engine 'abacus'; there are onnxruntime, tensorrt, torch"):
        load_engine(Version(version.folder, {**version.manifest, "engine": "abacus"}))
