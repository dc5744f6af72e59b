"""Publishing without traffic: checks, kills, rollback, the state on disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import reseal

from footfall.errors import InputError
from footfall_client import Client
from footfall_engines.repository import Repository
from footfall_engines.version import Version
from footfall_serving.publish import publish, rollback
from footfall_serving.server import running_server
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


def test_rollback_goes_back_and_forth_and_to_any_version(repository: Path) -> None:
    for version in (1, 2, 3):
        publish(number(repository, version), repository)
    assert rollback(repository).live == 2
    assert rollback(repository).live == 3
    assert rollback(repository, to=1).live == 1
    assert Repository(repository).loaded_numbers() == [1, 3]


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        (None, "has had no other live version"),
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
    assert not (number(repository, 3) / "__pycache__").exists()
    assert Version.open(number(repository, 3), verify=True).number == 3
    assert (repository / "preprocess" / "3" / "model.py").is_file()


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


def test_two_publishers_do_not_meet(repository: Path) -> None:
    import fcntl

    with (repository / ".publish.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another publish or rollback is at work"):
            publish(number(repository, 1), repository)


@pytest.mark.parametrize("delay_ms", [0, 700, 1500, 2500, 3500])
def test_a_publish_killed_at_any_moment_leaves_one_whole_live_version(
    repository: Path, delay_ms: int
) -> None:
    publish(number(repository, 1), repository)
    with running_server(repository) as state, Client(state.grpc_url) as client:
        command = subprocess.Popen(
            [FOOTFALL, "publish", str(number(repository, 2))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert command.stderr is not None
        command.stderr.readline()  # "loading version 2 ..."
        time.sleep(delay_ms / 1000)
        os.kill(command.pid, signal.SIGKILL)
        command.wait()
        command.stderr.close()
        assert client.recommend([]).model_version in (1, 2)
        assert Repository(repository).live_number() in (1, 2)
    live = Repository(repository).live_number()
    with running_server(repository) as state, Client(state.grpc_url) as client:
        assert client.recommend([]).model_version == live
        assert publish(number(repository, 2), repository).live == 2
        assert client.recommend([]).model_version == 2


def test_a_killed_copy_is_no_version(repository: Path, tmp_path: Path) -> None:
    shutil.move(number(repository, 3), tmp_path / "delivered")
    (number(repository, 3).parent / ".partial-0123abcd").mkdir()
    assert Repository(repository).numbers() == [1, 2]
    assert publish(tmp_path / "delivered", repository).live == 3
    assert [path.name for path in sorted((repository / "ranker").glob("[0-9.]*"))] == ["1", "2", "3"]
