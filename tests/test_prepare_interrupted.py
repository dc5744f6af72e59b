"""A prepare that is killed or meets a full disk leaves nothing that looks finished."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from full_disk import on_a_full_disk

from footfall.errors import InputError
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare

COMMAND = [sys.executable, "-c", "from footfall_cli.main import main; main()", "prepare"]
STOPPED = """
import os, signal, sys
import footfall_data.prepare as preparing
step, sent = sys.argv.pop(1), int(sys.argv.pop(1))
real = getattr(preparing, step)
def stopping(*arguments):
    made = real(*arguments)
    os.kill(os.getpid(), sent)
    return made
setattr(preparing, step, stopping)
from footfall_cli.main import main
main()
"""
"""A prepare that sends itself a signal after one of its steps."""

FILE_SIZE_LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def big_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200,000 events: their files outgrow FILE_SIZE_LIMIT."""
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    count = 200_000
    rows = pl.int_range(count, eager=True)
    pl.DataFrame(
        {
            "user_id": rows * 7919 % (count // 10),
            "item_id": rows % 5_000,
            "timestamp": 1_700_000_000_000 + rows * 500,
        }
    ).write_parquet(path)
    return path


def prepare_stopped(step: str, sent: signal.Signals, log: Path, out: Path) -> int:
    """The exit code of a prepare that gets the signal when `step`, a function that it calls, is done."""
    command = [sys.executable, "-c", STOPPED, step, str(int(sent)), "prepare", str(log), "--out", str(out)]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.fixture
def small_log(tmp_path: Path) -> Path:
    log = tmp_path / "small.csv"
    log.write_text("user_id,item_id,timestamp\nu,i,1700000005\nu,i,1700000060\n")
    return log


@pytest.mark.parametrize("step", ["_read_rules", "complete", "write_arrays"])
def test_a_killed_prepare_leaves_no_data_set_and_the_next_one_cleans_up(
    step: str, small_log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert prepare_stopped(step, signal.SIGKILL, small_log, out) == -signal.SIGKILL
    assert not out.exists()
    (left,) = tmp_path.glob(".partial-*/content")
    assert (left / "item.npy").exists() == (step == "write_arrays")
    with pytest.raises(InputError, match="not a finished dataset"):
        Dataset.open(left)
    prepare([small_log], out, PrepareOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "small.csv"]


def prepare_on_a_full_disk(log: Path, out: Path, *options: str) -> str:
    """What the command says where no file may grow beyond FILE_SIZE_LIMIT."""
    done = on_a_full_disk(FILE_SIZE_LIMIT, "prepare", log, "--out", out, *options)
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
        "user_id,item_id,timestamp\n"
        + "".join(f"u,i{at % 999},{1_600_000_000 + 999 * at}\n" for at in range(1, 1999))
    )
    rng = np.random.default_rng(0)
    items.write_text("item_id,title\n" + "".join(f"i{at},{rng.bytes(99).hex()}\n" for at in range(999)))
    said = prepare_on_a_full_disk(
        log, tmp_path / "out", "--items", str(items), "--robot-events-per-minute", "0"
    )
    assert "out cannot be written, nothing is left of it: File too large" in said
    assert sorted(tmp_path.iterdir()) == [items, log]


@pytest.mark.parametrize("step", ["_read_rules", "complete", "write_arrays"])
def test_ctrl_c_leaves_nothing(step: str, small_log: Path, tmp_path: Path) -> None:
    assert prepare_stopped(step, signal.SIGINT, small_log, tmp_path / "out") == 130
    assert list(tmp_path.iterdir()) == [small_log]
