"""The quality mark of docs/quality.md, by the commands that stand there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOOTFALL = Path(sys.executable).with_name("footfall")


def run(*arguments: str | Path) -> dict[str, Any]:
    done = subprocess.run([FOOTFALL, *arguments, "--json"], stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def metrics_on_beauty(log: Path, place: Path, *training: str) -> dict[str, float]:
    """Prepare, train with the defaults but for `training`, and rank the test events."""
    run("prepare", log, "--preset", "amazon", "--out", place / "beauty")
    run("train", place / "beauty", "--out", place / "checkpoint", *training)
    metrics: dict[str, float] = run("evaluate", place / "checkpoint", place / "beauty")["ranking"]["model"]
    return metrics


@pytest.mark.slow
@pytest.mark.timeout(3600)  # about 10 minutes on two free cores
def test_the_defaults_reach_the_mark_on_amazon_beauty(shared_datasets: Path, tmp_path: Path) -> None:
    metrics = metrics_on_beauty(shared_datasets / "amazon-beauty-2014" / "events.csv.gz", tmp_path)
    assert metrics["recall@10"] >= 0.080
    assert metrics["ndcg@10"] >= 0.044
