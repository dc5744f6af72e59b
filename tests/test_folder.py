"""Folders are whole or not there."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
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


def test_a_folder_that_a_killed_writer_moved_away_is_put_back_by_the_next(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from footfall.folder import written_aside\n"
        "def rename(path, to, real=Path.rename):\n"
        "    if '.partial' in path.name: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(path, to)\n"
        "Path.rename = rename\n"
        "with written_aside(Path(sys.argv[1]), overwrite=True) as folder:\n"
        "    (folder / 'data').write_text('new')"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="out exists already"):
        write(tmp_path / "out", "other")
    assert (tmp_path / "out" / "data").read_text() == "old"
    write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "data").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_rename_that_fails_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "out", "old")
    rename = Path.rename

    def fail(path: Path, to: Path) -> Path:
        if ".partial" in path.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(InputError, match="out cannot be written"):
        write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "data").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_writer_of_a_longer_name_left_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / ".replaced-out-longer-999999999").mkdir()
    write(tmp_path / "out", "abc")
    assert (tmp_path / ".replaced-out-longer-999999999").exists()


def test_what_an_older_process_of_the_same_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f".partial-out-{os.getpid()}").mkdir()  # in a container, process ids come again
    write(tmp_path / "out", "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_not_taken_for_a_folder(overwrite: bool, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("log")
    with pytest.raises(InputError, match="file is a file where a folder is needed"):
        write(file, "abc", overwrite=overwrite)
    with pytest.raises(InputError, match="file is a file where a folder is needed"):
        write(file / "a" / "out", "abc")
    assert file.read_text() == "log"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_told_in_words_whoever_writes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "data").write_bytes(bytes(9_000))
    writers: dict[str, Callable[[Path], object]] = {
        "File too large$": lambda folder: shutil.copytree(source, folder / "copy"),
        "the disk is full or a limit on file sizes is reached": lambda folder: np.save(
            folder / "data.npy", np.zeros(9_000)
        ),
    }
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for said, write_too_much in writers.items():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
        try:
            with pytest.raises(InputError, match=said), written_aside(tmp_path / "out") as folder:
                write_too_much(folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.iterdir()) == [source]


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
