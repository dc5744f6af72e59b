"""The `footfall` command as a whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import footfall_cli.main as footfall_main
from footfall_cli.main import app
from footfall_engines.repository import Repository

VERBS = sorted(command.callback.__name__ for command in app.registered_commands if command.callback)
FOOTFALL = Path(sys.executable).with_name("footfall")


def footfall(*arguments: str, columns: int = 200) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FOOTFALL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": str(columns)},
    )


def test_every_verb_of_the_design_is_there() -> None:
    assert set(VERBS) >= {
        "simulate",
        "prepare",
        "train",
        "evaluate",
        "export",
        "serve",
        "publish",
        "rollback",
        "versions",
        "recommend",
        "loadtest",
        "tune",
        "demo",
    }


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    run = footfall(verb, "--help")
    assert run.returncode == 0
    assert f"footfall {verb} " in run.stdout.replace("Usage: footfall", "")


def test_versions_are_told_whole_in_a_narrow_terminal(tiny_repository: Path) -> None:
    run = footfall("versions", "--repository", str(tiny_repository), columns=80)
    assert run.returncode == 0, run.stderr
    assert "…" not in run.stdout
    created = Repository(tiny_repository).version(1).manifest["created"]
    for word in ("onnxruntime", "fp32", created[:10], created[11:16]):
        assert word in run.stdout


def test_an_unknown_verb_is_refused() -> None:
    run = footfall("conquer")
    assert run.returncode == 2
    assert "conquer" in run.stderr


def test_a_users_error_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    run = footfall("evaluate", str(tmp_path), str(tmp_path))
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert run.stderr.strip().startswith("footfall: ")


def test_a_system_error_no_verb_translates_is_one_sentence_too(tmp_path: Path) -> None:
    (tmp_path / "afile").touch()
    shop = tmp_path / "afile" / "shop"
    run = footfall("simulate", str(shop), "--events", "1000")
    assert run.returncode == 1
    sentence = run.stderr.strip()
    assert sentence.startswith(f"footfall: {tmp_path / 'afile'}")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FileNotFoundError(2, "No such file or directory", "a"), "a: No such file or directory"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), "a to b: Invalid cross-device link"),
        (OSError("5 requested and 3 written"), "5 requested and 3 written"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_a_system_error_is_told_with_its_path_and_reason(
    error: OSError, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr(footfall_main, "app", failing)
    with pytest.raises(SystemExit, match="1"):
        footfall_main.main()
    assert capsys.readouterr().err == f"footfall: {sentence}\n"
