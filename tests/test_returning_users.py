"""Returning users on the real server: the torch engine computes only what is new, and a swap forgets everybody."""

import urllib.request
from pathlib import Path

import pytest
from conftest import eventually, make_checkpoint

from footfall_client import Client, Event, Recommendation
from footfall_data.dataset import Dataset
from footfall_engines.repository import Repository
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_serving.publish import publish, rollback
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

START_MS = 1_700_000_000_000
NOW_MS = START_MS + 100_000_000


@pytest.fixture(scope="module")
def repository(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of unlike weights, HSTU on the torch engine."""
    folder = tmp_path_factory.mktemp("returning")
    for seed in (1, 2):
        checkpoint = make_checkpoint(folder / f"checkpoint{seed}", dataset, seed, encoder="hstu")
        export(checkpoint, folder / "repository", ExportOptions(engine="torch"))
    return folder / "repository"


def history(dataset: Dataset, length: int, first: int = 1) -> list[Event]:
    ids = dataset.items.ids(range(first, first + length))
    return [Event(id_.decode(), "view", START_MS + 60_000 * place**2) for place, id_ in enumerate(ids)]


def assert_alike(got: Recommendation, expected: Recommendation) -> None:
    assert got.model_version == expected.model_version
    assert [item.id for item in got.items] == [item.id for item in expected.items]
    assert got.user_vector == pytest.approx(expected.user_vector, abs=1e-4)


def cached_events(state: ServerState) -> float:
    with urllib.request.urlopen(f"http://{state.metrics_url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    counts = (line for line in lines if line.startswith("footfall_history_events_total"))
    return sum(float(line.rsplit(" ", 1)[1]) for line in counts if 'source="cache"' in line)


def test_answers_are_those_of_a_stranger_and_a_swap_reuses_nothing(
    repository: Path, dataset: Dataset
) -> None:
    publish(Repository(repository).version_folder(1), repository)
    with running_server(repository) as state, Client(state.grpc_url) as client:

        def ask(length: int, first: int = 1, now: int = NOW_MS) -> Recommendation:
            events = history(dataset, length, first)
            answer = client.recommend(events, k=10, user="anna", now=now)
            assert_alike(answer, client.recommend(events, k=10, now=now))
            return answer

        ask(9)
        assert eventually(lambda: cached_events(state) == 0)
        ask(12)
        # All but the last, which waits for another event now.
        assert eventually(lambda: cached_events(state) == 8)
        ask(12)
        assert eventually(lambda: cached_events(state) == 8 + 11)
        late = ask(12, now=NOW_MS + 10**10)
        assert eventually(lambda: cached_events(state) == 8 + 11 + 11)
        assert late.user_vector != pytest.approx(ask(12).user_vector, abs=1e-2)
        before = cached_events(state)
        ask(8, first=5)  # another past under the same name
        assert cached_events(state) == before
        assert client.score(history(dataset, 9, first=5), ["nobody knows this"], user="anna") == {
            "nobody knows this": None
        }

        publish(Repository(repository).version_folder(2), repository)
        assert ask(9, first=5).model_version == 2
        rollback(repository)
        assert ask(10, first=5).model_version == 1
        with Client(state.http_url, "http") as http:
            assert_alike(
                http.recommend(history(dataset, 11, first=5), k=10, user="anna", now=NOW_MS),
                http.recommend(history(dataset, 11, first=5), k=10, now=NOW_MS),
            )
