"""serve --response-cache-mib: repeated requests are not computed again, and no answer is another for it."""

import os
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import a_stub, eventually

from footfall.contract import RECOMMENDER
from footfall.errors import InputError
from footfall_client import Client, InvalidRequest
from footfall_data.dataset import Dataset
from footfall_engines.repository import Repository
from footfall_engines.version import Version
from footfall_serving.heartbeat import Heartbeat
from footfall_serving.options import ServeOptions
from footfall_serving.publish import publish, rollback
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.response_cache import check_keeps
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

NOW = 1_700_000_000_000
ROUNDS = 6
"""Of the same request, so that each instance has answered it."""
MANY_EVENTS = 300
"""More than the other tests here ask for and the metrics may still tell later."""


@pytest.fixture(scope="module")
def repository(three_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = Path(shutil.copytree(three_versions, tmp_path_factory.mktemp("cached") / "repository"))
    publish(Repository(repository).version_folder(1))
    return repository


@pytest.fixture(scope="module")
def served(repository: Path) -> Iterator[ServerState]:
    with running_server(repository, ServeOptions("127.0.0.1", 0, 0, 0, response_cache_mib=4)) as state:
        yield state


def events_of(state: ServerState, source: str) -> float:
    """Of histories so far, by where their answers came from: computed or cache."""
    with urllib.request.urlopen(f"http://{state.metrics_url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    counts = (line for line in lines if line.startswith("footfall_history_events_total"))
    return sum(float(line.rsplit(" ", 1)[1]) for line in counts if f'source="{source}"' in line)


def test_a_cached_answer_is_always_the_live_versions(
    repository: Path, served: ServerState, dataset: Dataset
) -> None:
    history = [id_.decode() for id_ in dataset.items.ids(range(1, 6))]
    with Client(served.grpc_url) as client:
        before = events_of(served, "cache")
        first: dict[int, object] = {}
        for change in (None, 2, None, 1):  # publish 2, then back to 1, whose processes were never ended
            if change == 2:
                publish(Repository(repository).version_folder(2))
            elif change == 1:
                rollback(repository)
            live = Repository(repository).live_number()
            for _ in range(ROUNDS):
                answer = client.recommend(history, now=NOW)
                assert answer.model_version == live
                assert first.setdefault(answer.model_version, answer.items) == answer.items
        assert first[1] != first[2]
        assert eventually(
            lambda: bool(client.recommend(history, now=NOW)) and events_of(served, "cache") > before
        )


def test_a_refusal_is_not_kept_and_a_killed_stub_spoils_nothing(
    served: ServerState, repository: Path, dataset: Dataset
) -> None:
    history = [id_.decode() for id_ in dataset.items.ids(range(1, 6))]
    live = Repository(repository).live_number()
    assert live is not None
    with Client(served.grpc_url, timeout=60, retries=30) as client:
        for _ in range(ROUNDS):
            with pytest.raises(InvalidRequest, match="top_k is 1000"):
                client.recommend(history, k=1000, now=NOW)
        expected = client.recommend(history, now=NOW).items
        os.kill(a_stub(served.pid, RECOMMENDER, live).pid, signal.SIGKILL)

        def is_back() -> bool:
            try:
                return client.recommend(history, now=NOW).items == expected
            except Exception:
                return False

        assert eventually(is_back)
        assert eventually(lambda: all(is_back() for _ in range(ROUNDS)))


def test_a_heartbeat_is_answered_by_the_engine(served: ServerState, repository: Path) -> None:
    """Were it not, the same request again would add nothing to what is computed."""
    live = Repository(repository).live_number()
    assert live is not None
    with RepositoryApi(served) as api:
        heart = Heartbeat(api, Repository(repository).version(live))
        before = events_of(served, "computed")

        def has_computed() -> bool:
            assert heart.ask() == live
            return events_of(served, "computed") >= before + MANY_EVENTS

        assert eventually(has_computed)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InputError, match="response cache mib -1 must be at least 0"):
        ServeOptions(response_cache_mib=-1)


def test_a_plan_that_the_server_runs_itself_is_refused(repository: Path) -> None:
    version = Repository(repository).version(1)
    with pytest.raises(InputError, match="version 1 itself, without a step that could keep answers"):
        check_keeps(Version(version.folder, version.manifest | {"backend": "tensorrt"}))
