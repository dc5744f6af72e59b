"""The `footfall` command as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from footfall_cli.main import app

VERBS = sorted(command.callback.__name__ for command in app.registered_commands if command.callback)
FOOTFALL = Path(sys.executable).with_name("footfall")


def footfall(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FOOTFALL, *arguments], capture_output=True, text=True, check=False, env={"COLUMNS": "200"}
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
        "demo",
    }


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    run = footfall(verb, "--help")
    assert run.returncode == 0
    assert f"footfall {verb} " in run.stdout.replace("Usage: footfall", "")


def test_an_unknown_verb_is_refused() -> None:
    run = footfall("conquer")
    assert run.returncode == 2
    assert "conquer" in run.stderr


def test_a_users_error_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    run = footfall("evaluate", str(tmp_path), str(tmp_path))
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert run.stderr.strip().startswith("footfall: ")
