"""`footfall export` into the repositories a user has."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from footfall_engines.repository import Repository
from footfall_export import export as exporting
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_serving.publish import publish

FOOTFALL = Path(sys.executable).with_name("footfall")


def test_the_committed_repository_takes_a_real_version_beside_its_reference_files(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "model_repository"
    shutil.copytree(ROOT / "model_repository", repository, ignore=shutil.ignore_patterns(".*", "[2-9]"))
    assert Repository(repository).numbers() == []
    assert Repository(repository).live_number() is None
    assert export(tiny_checkpoint, repository, ExportOptions(engine="torch"))["version"] == 2
    assert Repository(repository).live_number() is None
    assert publish(Repository(repository).version_folder(2), repository).live == 2
    assert Repository(repository).live_number() == 2


def test_of_two_exports_at_once_each_gets_a_number(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting._write_version
    inner: list[int] = []

    def write(*arguments: Any) -> Any:
        if not inner:
            inner.append(0)
            inner[0] = export(tiny_checkpoint, tmp_path, ExportOptions(engine="torch"))["version"]
        return real(*arguments)

    monkeypatch.setattr(exporting, "_write_version", write)
    assert export(tiny_checkpoint, tmp_path, ExportOptions(engine="torch"))["version"] == 2
    assert inner == [1]
    assert Repository(tmp_path).numbers() == [1, 2]
    assert sorted(path.name for path in (tmp_path / "ranker").iterdir()) == ["1", "2"]
    assert (tmp_path / "preprocess" / "2" / "model.py").is_file()


def test_a_damaged_newest_version_blocks_no_export(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for _ in range(2):
        export(tiny_checkpoint, tmp_path, ExportOptions(engine="torch"))
    (Repository(tmp_path).version_folder(2) / "config.json").unlink()
    said: list[str] = []
    assert export(tiny_checkpoint, tmp_path, ExportOptions(engine="torch"), said.append)["version"] == 3
    assert len(said) == 1
    assert "version 2 is passed over" in said[0]


def test_every_option_of_the_command_reaches_the_version(tiny_checkpoint: Path, tmp_path: Path) -> None:
    options = ["--engine", "torch", "--precision", "bf16", "--max-top-k", "7", "--backend", "python"]
    run = subprocess.run(
        [
            FOOTFALL,
            "export",
            tiny_checkpoint,
            "--repository",
            tmp_path,
            *options,
            "--device",
            "cpu",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(run.stdout)
    version = Repository(tmp_path).version(1, verify=True)
    assert result["version"] == 1
    assert result["parity"]["measured"]
    assert (version.engine, version.precision, version.max_top_k) == ("torch", "bf16", 7)
    assert (version.backend, version.device) == ("python", "cpu")
    assert version.steps == ("preprocess", "ranker")


def test_a_users_error_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    run = subprocess.run(
        [FOOTFALL, "export", tmp_path, "--repository", tmp_path / "repository"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert (
        run.stderr.splitlines()[-1]
        == f"footfall: {tmp_path} is not a finished checkpoint: it has no manifest.json"
    )
    assert "Traceback" not in run.stderr
