"""A step of the demo: two lines where it ends well, the verb's own sentence once where it does not."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from footfall.errors import FootfallError
from footfall_cli.demo import Step, _run
from footfall_data.dataset import Dataset

TRAINING = ("--width", "16", "--epochs", "1", "--max-length", "10", "--loss", "sampled")


def training(dataset: Dataset, place: Path) -> Step:
    checkpoint = place / "checkpoint"
    return Step(("train", str(dataset.folder), "--out", str(checkpoint), *TRAINING), checkpoint)


def test_a_step_is_its_command_and_its_result_alone(
    dataset: Dataset, shop: Path, tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepared, found = tmp_path / "dataset", tmp_path / "evaluation.json"
    repository = tmp_path / "model_repository"
    steps = [
        Step(("prepare", str(shop / "events"), "--out", str(prepared)), prepared),
        Step(("evaluate", str(tiny_checkpoint), str(dataset.folder)), found),
        Step(("export", str(tiny_checkpoint), "--repository", str(repository)), repository / "ranker" / "1"),
    ]
    for step in steps:
        _run(step)
        out, err = capfd.readouterr()
        assert out == ""
        command, result = err.splitlines()
        assert command.split() == [step.arguments[0], "footfall", *step.arguments]
        assert re.fullmatch(r" {11}\S.* \(\d+\.\d s\)", result)
        assert step.makes.exists()
    assert "ranking" in json.loads(found.read_text())
    _run(steps[0])
    assert capfd.readouterr().err == f"prepare    {prepared} is there\n"


def test_at_a_terminal_the_bar_is_seen_and_nothing_else_is_said(dataset: Dataset, tmp_path: Path) -> None:
    step = training(dataset, tmp_path)
    made = f"Step({step.arguments!r}, Path({str(step.makes)!r}))"
    code = f"from footfall_cli.demo import Path, Step, _run; _run({made})"
    here, there = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=there, env=environment) as run:
        os.close(there)
        seen = b""
        while chunk := _read(here):
            seen += chunk
    os.close(here)
    assert run.returncode == 0
    seen = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen)  # colours and cursor moves
    assert b"events/s" in seen
    assert b"epoch 1/1" in seen
    assert b"epoch 1: validation" not in seen


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO where the other end is closed
        return b""


def test_a_step_that_fails_says_the_verbs_sentence_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    step = Step(("evaluate", str(tmp_path), str(tmp_path)), tmp_path / "evaluation.json")
    with pytest.raises(FootfallError, match="failed; its message is above"):
        _run(step)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[1].startswith("footfall: ")
    assert not list(tmp_path.iterdir())
