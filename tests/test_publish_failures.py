"""A publish that fails, wherever it does: one sentence, and nothing is other than before."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import copied, make_unloadable, reseal
from full_disk import on_a_full_disk

from footfall.errors import FootfallError, InputError, NotReadyError
from footfall_client import Client
from footfall_engines.repository import Repository
from footfall_serving.launch import LOG_FILE
from footfall_serving.lock import LOCK, SERVE_LOCK
from footfall_serving.publish import publish, rollback
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.server import running_server
from footfall_serving.state import STATE_FILE
from footfall_serving.stubs import live_stubs
from footfall_serving.versions import list_versions


@pytest.fixture
def repository(three_versions: Path, tmp_path: Path) -> Path:
    """Version 1 of three is live."""
    repository = copied(three_versions, tmp_path / "repository")
    publish(Repository(repository).version_folder(1))
    return repository


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every folder and file that is the repository's own."""
    passing = (LOCK, SERVE_LOCK, LOG_FILE, STATE_FILE)
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name not in passing and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("limit", [100, 1000, 2000])
def test_a_full_disk_changes_nothing(repository: Path, limit: int) -> None:
    """At 100 bytes the bytecode of an adaptor fails, then the configuration of the step, then the ensemble's."""
    before = contents(repository)
    run = on_a_full_disk(limit, "publish", str(Repository(repository).version_folder(2)))
    assert run.returncode == 1, run.stderr
    assert "cannot be written, it is as it was: File too large" in run.stderr
    assert "Traceback" not in run.stderr
    assert contents(repository) == before


def test_a_full_disk_leaves_no_part_of_a_copied_version(repository: Path, tmp_path: Path) -> None:
    shutil.move(Repository(repository).version_folder(3), tmp_path / "delivered")
    before = contents(repository)
    run = on_a_full_disk(20_000, "publish", str(tmp_path / "delivered"), "--repository", str(repository))
    assert run.returncode == 1, run.stderr
    assert "cannot be written, nothing is left of it: File too large" in run.stderr
    assert "Traceback" not in run.stderr
    assert contents(repository) == before


@pytest.mark.parametrize("limit", [100, 20_000])
def test_a_full_disk_leaves_no_part_of_an_exported_version(
    tiny_checkpoint: Path, tmp_path: Path, limit: int
) -> None:
    run = on_a_full_disk(limit, "export", str(tiny_checkpoint), "--repository", str(tmp_path / "new"))
    assert run.returncode == 1, run.stderr
    assert "cannot be written" in run.stderr
    assert "Traceback" not in run.stderr
    assert contents(tmp_path / "new") == {".aside": None}


def fail_to_record(patch: pytest.MonkeyPatch) -> None:
    def record(self: Repository, number: int, *, back: bool) -> None:
        raise InputError("the disk is full")

    patch.setattr(Repository, "record_promotion", record)


def fail_to_load_the_ensemble_once(patch: pytest.MonkeyPatch) -> None:
    load, calls = RepositoryApi.load, []

    def fails_once(self: RepositoryApi, model: str, *timeout: float) -> None:
        if model == "footfall":
            calls.append(model)
            if len(calls) == 1:
                raise NotReadyError("the disk is full")
        load(self, model, *timeout)

    patch.setattr(RepositoryApi, "load", fails_once)


@pytest.mark.parametrize("fail", [fail_to_record, fail_to_load_the_ensemble_once])
def test_a_failure_at_the_cut_over_leaves_disk_and_server_with_the_live_version(
    repository: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[[pytest.MonkeyPatch], None]
) -> None:
    with running_server(repository) as state, Client(state.grpc_url) as client:
        before = contents(repository)
        with monkeypatch.context() as patch:
            fail(patch)
            with pytest.raises(FootfallError, match="the disk is full"):
                publish(Repository(repository).version_folder(2))
        assert contents(repository) == before
        assert Repository(repository).live_number() == 1
        assert client.recommend([]).model_version == 1
        deadline = time.monotonic() + 10
        while {stub.version for stub in live_stubs(state.pid)} != {1}:
            assert time.monotonic() < deadline, "version 2 stays loaded"
            time.sleep(0.1)
        assert publish(Repository(repository).version_folder(2)).serving
        assert client.recommend([]).model_version == 2
        assert rollback(repository).live == 1


def test_a_version_that_does_not_load_is_refused_in_one_line(repository: Path) -> None:
    make_unloadable(Repository(repository).version_folder(2))
    with running_server(repository) as state, Client(state.grpc_url) as client:
        before = contents(repository)
        with pytest.raises(NotReadyError, match="the server refused load_model") as refused:
            publish(Repository(repository).version_folder(2))
        assert "\n" not in str(refused.value)
        assert "Traceback" not in str(refused.value)
        assert contents(repository) == before
        assert client.recommend([]).model_version == 1


def spoil(folder: Path, **fields: Any) -> None:
    """Set manifest fields, or with None take them away, and leave the rest as it is."""
    manifest = json.loads((folder / "manifest.json").read_text()) | fields
    kept = {name: value for name, value in manifest.items() if value is not None}
    (folder / "manifest.json").write_text(json.dumps(kept))


@pytest.mark.parametrize("field", ["files", "num_items", "lineage"])
def test_a_manifest_without_a_field_is_named(repository: Path, field: str) -> None:
    spoil(Repository(repository).version_folder(3), **{field: None})
    sentence = f"manifest.json is not the manifest of a version: it lacks '{field}'"
    assert sentence in list_versions(repository)[2]["error"]
    with pytest.raises(InputError, match=sentence):
        publish(Repository(repository).version_folder(3))
    assert Repository(repository).live_number() == 1


def test_a_version_without_metrics_does_not_hide_the_others(repository: Path) -> None:
    spoil(Repository(repository).version_folder(3), metrics={})
    rows = list_versions(repository)
    assert "error" not in rows[0]
    assert "hold no NDCG@10" in rows[2]["error"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("footfall/config.pbtxt", "name: {{{", "config.pbtxt is not a model's configuration"),
        ("footfall/config.pbtxt", 'name: "footfall"', "it has no steps"),
        (STATE_FILE, "{", "does not tell of a server of this Footfall"),
        (STATE_FILE, '{"pid": 1}', "does not tell of a server of this Footfall"),
    ],
)
def test_a_broken_file_of_the_repository_is_named(
    repository: Path, name: str, text: str, sentence: str
) -> None:
    (repository / name).write_text(text)
    with pytest.raises(InputError, match=sentence):
        list_versions(repository)
    with pytest.raises(InputError, match=sentence):
        publish(Repository(repository).version_folder(2))


def test_what_is_no_version_in_a_repository_is_refused_without_a_trace(
    tiny_checkpoint: Path, repository: Path, tmp_path: Path
) -> None:
    place = tmp_path / "pub" / "x"
    place.mkdir(parents=True)
    shutil.copytree(tiny_checkpoint, place / "checkpoint")
    shutil.copytree(Repository(repository).version_folder(3), place / "myversion")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="nosuch/ranker/1 is not a finished version"):
        publish(tmp_path / "nosuch" / "ranker" / "1")
    with pytest.raises(InputError, match="holds a checkpoint, expected a version"):
        publish(place / "checkpoint")
    with pytest.raises(InputError, match=r"myversion does not lie in a model repository.*--repository"):
        publish(place / "myversion")
    with pytest.raises(InputError, match="is not a model repository: it has no versions"):
        rollback(tmp_path / "nosuch")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_manifest_may_not_name_files_outside_of_its_folder(repository: Path, tmp_path: Path) -> None:
    delivered = tmp_path / "in" / "delivered"
    shutil.copytree(Repository(repository).version_folder(3), delivered)
    (tmp_path / "in" / "outside").write_text("")
    reseal(delivered)
    files = json.loads((delivered / "manifest.json").read_text())["files"]
    spoil(delivered, files=files | {"../outside": files["model.onnx"] | {"bytes": 0, "sha256": EMPTY_SHA256}})
    with pytest.raises(InputError, match=r"lists \.\./outside, which lies outside of its folder"):
        publish(delivered, repository)
    assert Repository(repository).numbers() == [1, 2, 3]
    assert not (repository / "ranker" / "outside").exists()


EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
