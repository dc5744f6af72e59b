"""Versions swapped under load: no failed request, every answer from exactly one version, nothing left behind."""

import shutil
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from asker import Asker

from footfall_client import Client, Recommendation
from footfall_data.dataset import Dataset
from footfall_engines.repository import Repository
from footfall_serving.publish import publish, rollback
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

NUM_VERSIONS = 3
NUM_CLIENTS = 8
NUM_SWAPS = 10
NUM_ROLLBACKS = 2
NUM_LOOKS = 150
NUM_ALIKE = 15


@pytest.fixture
def repository(three_versions: Path, tmp_path: Path) -> Path:
    """Versions of unlike weights, so that an answer tells which made it."""
    shutil.copytree(three_versions, tmp_path / "repository")
    return tmp_path / "repository"


def footprint(state: ServerState) -> tuple[int, int]:
    """Processes of the server, and shared-memory regions of its stubs, once they have not changed for a while.

    The server answers that a version is loaded before the stub of the version that it replaces has ended.
    """
    counts: list[tuple[int, int]] = []
    for _ in range(NUM_LOOKS):
        processes = len(psutil.Process(state.pid).children(recursive=True))
        counts.append((processes, len(list(Path("/dev/shm").glob(f"{state.shm_prefix}*")))))
        if len(counts) >= NUM_ALIKE and len(set(counts[-NUM_ALIKE:])) == 1:
            return counts[-1]
        time.sleep(0.1)
    raise AssertionError(f"the server's processes and shared memory do not settle: {counts}")


def ask(history: list[str], client: Client) -> Recommendation:
    return client.recommend(history, k=10)


def key(answer: Recommendation) -> tuple[tuple[str, float], ...]:
    return tuple((item.id, round(item.score, 3)) for item in answer.items)


def test_ten_swaps_and_two_rollbacks_under_eight_clients_lose_nothing(
    repository: Path, dataset: Dataset
) -> None:
    ids = [id_.decode() for id_ in dataset.items.ids(range(1, 40))]
    publish(Repository(repository).version_folder(1), repository)
    with running_server(repository) as state:
        histories = [ids[place : place + 3 + place] for place in range(NUM_CLIENTS)]
        askers = [Asker(state.grpc_url, partial(ask, history)) for history in histories]
        expected: dict[tuple[int, int], tuple[tuple[str, float], ...]] = {}

        def record(version: int) -> None:
            """What `version` answers to every client while it alone is live."""
            with Client(state.grpc_url) as client:
                for place, history in enumerate(histories):
                    answer = ask(history, client)
                    assert answer.model_version == version
                    assert expected.setdefault((version, place), key(answer)) == key(answer)

        record(1)
        for asker in askers:
            asker.start()
        early = (0, 0)
        try:
            for swap in range(NUM_SWAPS):
                version = (swap + 1) % NUM_VERSIONS + 1
                assert publish(Repository(repository).version_folder(version), repository).live == version
                record(version)
                if swap == 1:
                    early = footprint(state)
            for _ in range(NUM_ROLLBACKS):
                record(rollback(repository).live)
        finally:
            for asker in askers:
                asker.ended.set()
            for asker in askers:
                asker.join()
        late = footprint(state)
    assert [repr(failure) for asker in askers for failure in asker.failures] == []
    assert late == early
    seen = set()
    for place, asker in enumerate(askers):
        assert len(asker.answers) > NUM_SWAPS
        for answer in asker.answers:
            assert key(answer) == expected[answer.model_version, place]
            seen.add(answer.model_version)
    assert seen == set(range(1, NUM_VERSIONS + 1))
    assert len(set(expected.values())) == len(expected)
