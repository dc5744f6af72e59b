"""Folders are whole or not there."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from footfall.errors import InputError
from footfall.folder import read_manifest, write_manifest, written_aside


def write(target: Path, text: str, *, overwrite: bool = False) -> None:
    with written_aside(target, overwrite=overwrite) as folder:
        (folder / "data").write_text(text)
        write_manifest(folder, "dataset", {"rows": 3})


def test_a_finished_folder_reads_back(tmp_path: Path) -> None:
    write(tmp_path / "out", "abc")
    assert read_manifest(tmp_path / "out", "dataset", verify=True)["rows"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_writer_leaves_nothing_and_keeps_the_old_folder(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with (
        pytest.raises(InputError, match="out cannot be written, nothing is left of it: No space"),
        written_aside(tmp_path / "out", overwrite=True) as folder,
    ):
        (folder / "data").write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "out" / "data").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_two_writers_of_one_name_the_slower_is_refused_and_the_faster_stays(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already"), written_aside(tmp_path / "out") as folder:
        (folder / "data").write_text("slow")
        subprocess.run(["cp", "-r", folder, tmp_path / "out"], check=True)  # as another process would
        (tmp_path / "out" / "data").write_text("fast")
    assert (tmp_path / "out" / "data").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_writer_leaves_nothing_that_looks_finished_and_the_next_cleans_up(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from footfall.folder import written_aside\n"
        "with written_aside(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'data').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    write(tmp_path / "out", "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_folder_is_not_overwritten_unasked(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "out", "new")
    write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "data").read_text() == "new"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "data").unlink(), "incomplete"),
        (lambda folder: (folder / "data").write_text("abcd"), "4 bytes"),
        (lambda folder: (folder / "data").write_text("xyz"), "SHA-256"),
        (lambda folder: (folder / "manifest.json").unlink(), "not a finished dataset"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "not valid JSON"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path: Path, damage: object, sentence: str) -> None:
    write(tmp_path / "out", "abc")
    assert callable(damage)
    damage(tmp_path / "out")
    with pytest.raises(InputError, match=sentence):
        read_manifest(tmp_path / "out", "dataset", verify=True)


def test_another_kind_of_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "out", "abc")
    with pytest.raises(InputError, match="holds a dataset, expected a checkpoint"):
        read_manifest(tmp_path / "out", "checkpoint")
