"""Publishing without traffic: checks, kills, rollback, the state on disk."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import reseal

from footfall.errors import InputError
from footfall.folder import aside
from footfall_client import Client
from footfall_engines.repository import ASIDE, Repository
from footfall_engines.version import Version
from footfall_serving.launch import LOG_FILE
from footfall_serving.lock import locked
from footfall_serving.publish import publish, rollback
from footfall_serving.server import running_server
from footfall_serving.state import ServerState
from footfall_serving.stubs import live_stubs
from footfall_serving.versions import list_versions

FOOTFALL = str(Path(sys.executable).with_name("footfall"))


@pytest.fixture
def repository(three_versions: Path, tmp_path: Path) -> Path:
    shutil.copytree(three_versions, tmp_path / "repository")
    return tmp_path / "repository"


def number(repository: Path, version: int) -> Path:
    return Repository(repository).version_folder(version)


def test_without_a_server_the_version_is_pinned_on_disk(repository: Path) -> None:
    done = publish(number(repository, 1), repository)
    assert (done.live, done.previous, done.serving) == (1, None, False)
    done = publish(number(repository, 2), repository)
    assert (done.live, done.previous) == (2, 1)
    assert Repository(repository).live_number() == 2
    assert Repository(repository).loaded_numbers() == [1, 2]
    assert publish(number(repository, 3), repository).previous == 2
    assert Repository(repository).loaded_numbers() == [2, 3]


def test_a_second_rollback_goes_further_back_and_not_forth_again(repository: Path) -> None:
    for version in (1, 2, 3):
        publish(number(repository, version), repository)
    assert rollback(repository).live == 2
    assert Repository(repository).loaded_numbers() == [2, 3]
    assert rollback(repository).live == 1
    with pytest.raises(InputError, match="has no earlier live version to go back to; --to names any other"):
        rollback(repository)
    assert rollback(repository, to=3).live == 3
    assert rollback(repository).live == 1
    assert publish(number(repository, 2), repository).live == 2
    assert [row["rollback"] for row in list_versions(repository)] == [True, False, False]
    assert [len(row["promoted"]) for row in list_versions(repository)] == [3, 3, 2]
    assert rollback(repository).live == 1


def test_a_rollback_passes_over_what_is_damaged(repository: Path) -> None:
    for version in (1, 2, 3):
        publish(number(repository, version), repository)
    (number(repository, 2) / "model.onnx").unlink()
    said: list[str] = []
    assert rollback(repository, say=said.append).live == 1
    assert "version 2 is passed over" in said[0]
    with pytest.raises(InputError, match=r"model\.onnx is missing"):
        rollback(repository, to=2)


def test_a_damaged_newest_version_blocks_no_publish(repository: Path, tmp_path: Path) -> None:
    publish(number(repository, 1), repository)
    shutil.copytree(number(repository, 2), tmp_path / "delivered")
    (number(repository, 3) / "model.onnx").unlink()
    said: list[str] = []
    assert publish(number(repository, 2), repository, said.append).live == 2
    assert "version 3 is passed over" in said[0]
    assert publish(tmp_path / "delivered", repository, said.append).live == 4
    assert sum("passed over" in line for line in said) == 2
    (number(repository, 4) / "model.onnx").unlink()
    assert publish(number(repository, 2), repository).live == 2


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        (None, "has no earlier live version"),
        (1, "is live already"),
        (9, "has no version 9; it has 1, 2, 3"),
    ],
)
def test_an_impossible_rollback_is_refused(repository: Path, to: int | None, sentence: str) -> None:
    publish(number(repository, 1), repository)
    with pytest.raises(InputError, match=sentence):
        rollback(repository, to)


def test_a_version_from_elsewhere_is_copied_as_the_newest(repository: Path, tmp_path: Path) -> None:
    shutil.move(number(repository, 3), tmp_path / "delivered")
    (tmp_path / "delivered" / "__pycache__").mkdir()
    (tmp_path / "delivered" / "__pycache__" / "model.pyc").write_bytes(b"never sealed")
    publish(number(repository, 1), repository)
    assert publish(tmp_path / "delivered", repository).live == 3
    assert not (number(repository, 3) / "__pycache__" / "model.pyc").exists()
    assert Version.open(number(repository, 3), verify=True).number == 3
    assert (repository / "recommender" / "3" / "model.py").is_file()


def test_incomplete_altered_and_foreign_folders_are_refused_and_change_nothing(
    repository: Path, tmp_path: Path
) -> None:
    publish(number(repository, 1), repository)
    (number(repository, 2) / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"model\.onnx is missing though its manifest lists it"):
        publish(number(repository, 2), repository)
    weights = number(repository, 3) / "model.onnx"
    weights.write_bytes(b"\0" + weights.read_bytes()[1:])
    with pytest.raises(InputError, match="SHA-256"):
        publish(number(repository, 3), repository)
    reseal(number(repository, 3), lineage="of-another-shop")
    with pytest.raises(InputError, match="lineage of-another-shop is not"):
        publish(number(repository, 3), repository)
    with pytest.raises(InputError, match="is not a finished version"):
        publish(tmp_path, repository)
    assert Repository(repository).live_number() == 1
    assert Repository(repository).loaded_numbers() == [1]


def test_the_versions_are_listed_and_a_broken_one_says_why(repository: Path) -> None:
    publish(number(repository, 2), repository)
    (number(repository, 3) / "canary.json").unlink()
    rows = {row["version"]: row for row in list_versions(repository)}
    assert [rows[place]["live"] for place in (1, 2, 3)] == [False, True, False]
    assert rows[1]["engine"] == "onnxruntime"
    assert "canary.json is missing" in rows[3]["error"]


def test_a_failed_canary_changes_nothing_for_traffic(repository: Path) -> None:
    publish(number(repository, 1), repository)
    canary = json.loads((number(repository, 2) / "canary.json").read_text())
    canary["requests"][0]["score"][0] += 1.0
    (number(repository, 2) / "canary.json").write_text(json.dumps(canary))
    reseal(number(repository, 2))
    with running_server(repository) as state, Client(state.grpc_url) as client:
        with pytest.raises(InputError, match="version 2 fails its canary"):
            publish(number(repository, 2), repository)
        assert client.recommend([]).model_version == 1
        deadline = time.monotonic() + 10
        while {stub.version for stub in live_stubs(state.pid)} != {1}:
            assert time.monotonic() < deadline, "version 2 stays loaded"
            time.sleep(0.1)
        assert publish(number(repository, 3), repository).serving
        assert client.recommend([]).model_version == 3
    assert Repository(repository).live_number() == 3


def stubs_of(state: ServerState, version: int) -> set[tuple[str, int]]:
    """Model and process of each stub of the version."""
    return {(stub.model, stub.pid) for stub in live_stubs(state.pid) if stub.version == version}


def test_publishing_touches_no_stub_that_is_live_and_loads_no_third_engine(
    repository: Path, tmp_path: Path
) -> None:
    shutil.move(number(repository, 3), tmp_path / "delivered")
    reseal(tmp_path / "delivered", heads=[])  # whose steps hand on less
    publish(number(repository, 1), repository)
    with running_server(repository) as state:
        live = stubs_of(state, 1)
        assert publish(number(repository, 2), repository).serving
        assert stubs_of(state, 1) == live
        live = stubs_of(state, 2)
        with aside(repository / ASIDE):  # an export is under way
            assert publish(tmp_path / "delivered", repository).live == 3
        assert stubs_of(state, 2) == live
        assert rollback(repository).live == 2
        assert stubs_of(state, 2) == live
        assert live
    log = (repository / LOG_FILE).read_text()
    for model in Repository(repository).version(1).steps:
        assert log.index(f"unloaded '{model}' version 1") < log.index(f"loading: {model}:3")


def test_two_publishers_do_not_meet(repository: Path) -> None:
    with locked(repository), pytest.raises(InputError, match="another publish or rollback is at work"):
        publish(number(repository, 1), repository)
    assert publish(number(repository, 1), repository).live == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from footfall_engines.repository import ASIDE, Repository
from footfall_serving import publish as publishing
from footfall_serving.repository_api import RepositoryApi

step, moment = sys.argv[1:3]
owner, name = {
    "write_step_configs": (Repository, "write_step_configs"),
    "replay": (publishing, "replay"),
    "write_ensemble_config": (Repository, "write_ensemble_config"),
    "record_promotion": (Repository, "record_promotion"),
}.get(step, (RepositoryApi, "load"))
real = getattr(owner, name)

def killed(*arguments, **options):
    here = name != "load" or step == f"load {arguments[1]}"
    if here and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real(*arguments, **options)
    if here:
        os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killed)
publishing.publish(Path(sys.argv[3]))
"""
"""A publish that is killed at a step."""


@pytest.mark.parametrize(
    ("step", "moment", "left"),
    [
        ("write_step_configs", "after", 1),
        ("load recommender", "after", 1),
        ("replay", "after", 1),
        ("write_ensemble_config", "before", 1),
        ("write_ensemble_config", "after", 2),
        ("record_promotion", "after", 2),
        ("load footfall", "after", 2),
    ],
)
def test_a_publish_killed_at_any_step_leaves_one_whole_live_version(
    repository: Path, step: str, moment: str, left: int
) -> None:
    publish(number(repository, 1), repository)
    with running_server(repository) as state, Client(state.grpc_url) as client:
        command = [sys.executable, "-c", KILLED, step, moment, str(number(repository, 2))]
        killed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert Repository(repository).live_number() == left
        assert client.recommend([]).model_version == (2 if step == "load footfall" else 1)
        if step in ("load recommender", "record_promotion"):
            assert publish(number(repository, 3), repository).serving
            assert client.recommend([]).model_version == 3
            return
    with running_server(repository) as state, Client(state.grpc_url) as client:
        assert client.recommend([]).model_version == left
        assert publish(number(repository, 2), repository).live == 2
        assert client.recommend([]).model_version == 2


def test_a_killed_copy_is_no_version(repository: Path, tmp_path: Path) -> None:
    shutil.move(number(repository, 3), tmp_path / "delivered")
    (repository / ".aside" / ".partial-0123abcd").mkdir(parents=True)
    assert Repository(repository).numbers() == [1, 2]
    assert publish(tmp_path / "delivered", repository).live == 3
    assert not (repository / ".aside" / ".partial-0123abcd").exists()
