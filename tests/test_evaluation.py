"""`footfall evaluate` where there is little to measure or to measure on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_checkpoint

from footfall.errors import FootfallError
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_training.evaluation.evaluation import evaluate
from footfall_training.evaluation.options import EvaluateOptions

FOOTFALL = Path(sys.executable).with_name("footfall")


@pytest.fixture(scope="module")
def one_action(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A log in which nobody does anything but view."""
    folder = tmp_path_factory.mktemp("one")
    rows = [
        f"u{user},i{(user + step) % 7},{1_700_000_000 + 60 * step}" for user in range(9) for step in range(5)
    ]
    (folder / "log.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    prepare([folder / "log.csv"], folder / "dataset", PrepareOptions())
    return Dataset.open(folder / "dataset")


def run_evaluate(checkpoint: Path, data: Dataset, *options: str) -> str:
    command = [str(FOOTFALL), "evaluate", str(checkpoint), str(data.folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_what_a_metric_has_no_value_for_is_null_and_a_dash(one_action: Dataset, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", one_action, seed=0)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    view = json.loads(run_evaluate(checkpoint, one_action, "--json"), parse_constant=refuse)["actions"][
        "view"
    ]
    assert (view["share"], view["auc"], view["ne"]) == (1.0, None, None)
    assert view["log_loss"] == pytest.approx(0, abs=1e-6)
    assert "nan" not in run_evaluate(checkpoint, one_action)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("nonsense", "unknown device 'nonsense'; there are cpu, cuda and cuda:N"),
        ("cuda:99", "device cuda:99 asks for a GPU and this machine"),
    ],
)
def test_a_device_that_is_not_there_is_said(
    device: str, said: str, tiny_checkpoint: Path, dataset: Dataset
) -> None:
    with pytest.raises(FootfallError, match=said):
        evaluate(tiny_checkpoint, dataset, EvaluateOptions(device=device))


@pytest.mark.gpu
def test_a_gpu_ranks_as_the_cpu_does(tiny_checkpoint: Path, dataset: Dataset) -> None:
    assert torch.cuda.is_available()
    cpu, gpu = (
        evaluate(tiny_checkpoint, dataset, EvaluateOptions(device=device))["ranking"]["model"]
        for device in ("cpu", "cuda")
    )
    assert gpu == pytest.approx(cpu, abs=0.01)
