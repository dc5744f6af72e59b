"""Folders are whole or not there."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from footfall import folder as folders
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


@pytest.mark.parametrize(("moment", "kept"), [("before", "old"), ("after", "new")])
def test_a_writer_killed_at_the_exchange_leaves_one_whole_folder_and_the_next_cleans_up(
    tmp_path: Path, moment: str, kept: str
) -> None:
    write(tmp_path / "out", "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from footfall import folder as folders\n"
        "def exchange(one, other, real=folders.exchange):\n"
        "    if sys.argv[2] == 'after' or other.name != 'out': real(one, other)\n"
        "    if other.name == 'out': os.kill(os.getpid(), signal.SIGKILL)\n"
        "folders.exchange = exchange\n"
        "with folders.written_aside(Path(sys.argv[1]), overwrite=True) as folder:\n"
        "    (folder / 'data').write_text('new')\n"
        "    folders.write_manifest(folder, 'dataset', {})"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out"), moment], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "out" / "data").read_text() == kept
    read_manifest(tmp_path / "out", "dataset", verify=True)
    write(tmp_path / "other", "abc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def test_who_reads_a_folder_that_is_replaced_again_and_again_always_finds_one(tmp_path: Path) -> None:
    """With two renames in place of the exchange, thousands of looks found nothing."""
    write(tmp_path / "out", "0")
    ended, missed = threading.Event(), []

    def look() -> None:
        while not ended.is_set():
            if not os.path.exists(tmp_path / "out"):  # noqa: PTH110 - nothing but the system's call
                missed.append("out")

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for turn in range(1, 101):
            write(tmp_path / "out", str(turn), overwrite=True)
    finally:
        ended.set()
        reader.join()
    assert not missed
    assert (tmp_path / "out" / "data").read_text() == "100"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_system_without_exchange_refuses_before_the_work_and_keeps_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(one: Path, other: Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    write(tmp_path / "out", "old")
    monkeypatch.setattr(folders, "exchange", fail)
    sentence = r"out cannot be overwritten: its file system cannot exchange two folders in one step \(Invalid"
    with (
        pytest.raises(InputError, match=sentence),
        written_aside(tmp_path / "out", overwrite=True),
    ):
        pytest.fail("the work began")
    assert (tmp_path / "out" / "data").read_text() == "old"
    write(tmp_path / "new", "abc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]


def test_an_exchange_that_fails_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "out", "old")
    real = folders.exchange

    def fail(one: Path, other: Path) -> None:
        if other.name == "out":
            raise OSError(errno.EIO, "Input/output error")
        real(one, other)

    monkeypatch.setattr(folders, "exchange", fail)
    with pytest.raises(InputError, match="out cannot be written, nothing is left of it: Input/output error"):
        write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "data").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_a_link_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "disk" / "real", "old")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "disk" / "new")
    write(tmp_path / "out", "new", overwrite=True)
    write(tmp_path / "dangling", "abc")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "real" / "data").read_text() == "new"
    assert (tmp_path / "disk" / "new" / "data").read_text() == "abc"
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["new", "real"]


def test_a_name_as_long_as_the_system_takes_is_written(tmp_path: Path) -> None:
    write(tmp_path / ("x" * 255), "abc")
    write(tmp_path / ("x" * 255), "new", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]
    with pytest.raises(InputError, match="cannot be written, nothing is left of it: File name too long"):
        write(tmp_path / ("x" * 256), "abc")


@pytest.mark.parametrize("namespace", [[], ["unshare", "--user", "--map-root-user", "--pid", "--fork"]])
def test_the_folder_of_a_writer_that_lives_stays_whichever_container_it_lives_in(
    tmp_path: Path, namespace: list[str]
) -> None:
    if namespace and subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no process namespace of its own")
    code = (
        "import sys; from pathlib import Path; from footfall.folder import write_manifest, written_aside\n"
        "with written_aside(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'data').write_text('slow'); print('writing', flush=True); sys.stdin.readline()\n"
        "    write_manifest(folder, 'dataset', {})"
    )
    command = [*namespace, sys.executable, "-c", code, str(tmp_path / "slow")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as slow:
        assert slow.stdout is not None
        assert slow.stdout.readline() == "writing\n"
        write(tmp_path / "fast", "abc")
        slow.communicate("go on\n")
    assert slow.returncode == 0
    assert (tmp_path / "slow" / "data").read_text() == "slow"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fast", "slow"]


def test_what_was_killed_before_it_held_its_lock_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".partial-0123abcd").mkdir()
    (tmp_path / ".partial-of-somebody").mkdir()
    write(tmp_path / "out", "abc")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-of-somebody", "out"]


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
