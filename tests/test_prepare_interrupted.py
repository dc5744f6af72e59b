"""A prepare that is killed or meets a full disk leaves nothing that looks finished."""

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from footfall.errors import InputError
from footfall_data.dataset import Dataset
from footfall_data.prepare import PrepareOptions, prepare

COMMAND = [sys.executable, "-c", "from footfall_cli.main import main; main()", "prepare"]
FILE_SIZE_LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def big_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 million events: over a second of work, so that a kill lands in the middle of it."""
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    count = 2_000_000
    rows = pl.int_range(count, eager=True)
    pl.DataFrame(
        {
            "user_id": rows * 7919 % (count // 10),
            "item_id": rows % 5_000,
            "timestamp": 1_700_000_000_000 + rows * 500,
        }
    ).write_parquet(path)
    return path


def wait_for(pattern: str, folder: Path, process: subprocess.Popen[bytes]) -> None:
    while not any(folder.glob(pattern)):
        assert process.poll() is None, f"it ended before {pattern} appeared"
        time.sleep(0.001)


@pytest.mark.parametrize("sign", [".partial-out-*", ".partial-out-*/item.npy"])
def test_a_killed_prepare_leaves_no_data_set_and_the_next_one_cleans_up(
    sign: str, big_log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with subprocess.Popen([*COMMAND, str(big_log), "--out", str(out)], stderr=subprocess.PIPE) as process:
        try:
            wait_for(sign, tmp_path, process)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    left = list(tmp_path.glob(".partial-out-*"))
    assert len(left) == 1, "killed while writing"
    with pytest.raises(InputError, match="not a finished dataset"):
        Dataset.open(left[0])
    small = tmp_path / "small.csv"
    small.write_text("user_id,item_id,timestamp\nu,i,5\nu,i,60\n")
    prepare([small], out, PrepareOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "small.csv"]


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE_LIMIT, FILE_SIZE_LIMIT))


def prepare_on_a_full_disk(log: Path, out: Path, *options: str) -> str:
    """What the command says where no file may grow beyond FILE_SIZE_LIMIT."""
    command = [*COMMAND, str(log), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit_files)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_full_disk_is_one_sentence_and_leaves_nothing(big_log: Path, tmp_path: Path) -> None:
    said = prepare_on_a_full_disk(big_log, tmp_path / "out")
    assert "out cannot be written, nothing is left of it: the disk is full or a limit on file" in said
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_with_the_item_table_is_no_different(tmp_path: Path) -> None:
    log, items = tmp_path / "log.csv", tmp_path / "items.csv"
    log.write_text(
        "user_id,item_id,timestamp\n" + "".join(f"u,i{at % 999},{at}001\n" for at in range(1, 1999))
    )
    rng = np.random.default_rng(0)
    items.write_text("item_id,title\n" + "".join(f"i{at},{rng.bytes(99).hex()}\n" for at in range(999)))
    said = prepare_on_a_full_disk(
        log, tmp_path / "out", "--items", str(items), "--robot-events-per-minute", "0"
    )
    assert "out cannot be written, nothing is left of it: File too large" in said
    assert sorted(tmp_path.iterdir()) == [items, log]


def test_ctrl_c_leaves_nothing(big_log: Path, tmp_path: Path) -> None:
    command = [*COMMAND, str(big_log), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            wait_for(".partial-out-*", tmp_path, process)
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
