"""Fixtures every test file may use: a small shop, a checkpoint and a repository made of it, a running server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from footfall.history import newest
from footfall_export.export import ExportOptions, export
from footfall_export.repository import write_configs
from footfall_export.version import Version, version_folder
from footfall_serving.install import install
from footfall_serving.server import running_server
from footfall_serving.state import ServerState
from footfall_training.checkpoint import save_checkpoint
from footfall_training.dataset import Dataset
from footfall_training.model import SequenceModel
from footfall_training.options import ModelConfig
from footfall_training.prepare import PrepareOptions, prepare
from footfall_training.ranking import Targets
from footfall_training.simulate import SimulateOptions, simulate
from footfall_training.train import fill_priors

ROOT = Path(__file__).resolve().parent.parent
MAX_LENGTH = 20


@pytest.fixture(scope="session")
def shared_datasets() -> Path:
    """The real logs beside the checkout; a test that needs them skips where they are absent."""
    folder = ROOT.parent / "shared" / "datasets"
    if not folder.is_dir():
        pytest.skip("the real data sets are not beside this checkout (../shared/datasets)")
    return folder


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log: events/ and items.parquet."""
    out = tmp_path_factory.mktemp("shop") / "shop"
    simulate(out, SimulateOptions(events=20_000, users=900, items=300, seed=1))
    return out


@pytest.fixture(scope="session")
def dataset(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("dataset") / "dataset"
    prepare([shop / "events"], out, PrepareOptions(items=shop / "items.parquet"))
    return Dataset.open(out)


def make_checkpoint(out: Path, dataset: Dataset, seed: int) -> Path:
    """A checkpoint with random weights: all that export and serving care about, without training."""
    torch.manual_seed(seed)
    config = ModelConfig(len(dataset.items), len(dataset.actions), width=16, max_length=MAX_LENGTH)
    model = SequenceModel(config)
    torch.nn.init.normal_(model.item_embedding.weight, std=0.25)  # rows about as long as trained ones: 1
    fill_priors(model, dataset, "leave_one_out")
    samples = newest(Targets.of(dataset, "leave_one_out", "validation", 64).histories, MAX_LENGTH)
    save_checkpoint(out, model, dataset, samples, {"validation": {"ndcg@10": 0.0}})
    return out


@pytest.fixture(scope="session")
def tiny_checkpoint(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "checkpoint", dataset, seed=0)


@pytest.fixture(scope="session")
def tiny_repository(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of the checkpoint, live. Do not change it: copy it."""
    repository = tmp_path_factory.mktemp("repository") / "model_repository"
    export(tiny_checkpoint, repository, ExportOptions())
    version = Version.open(version_folder(repository, 1))
    write_configs(repository, [version], version)
    return repository


@pytest.fixture(scope="session")
def three_versions(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of three versions of unlike weights, none of them live. Do not change it: copy it."""
    folder = tmp_path_factory.mktemp("three")
    for seed in (1, 2, 3):
        checkpoint = make_checkpoint(folder / f"checkpoint{seed}", dataset, seed)
        export(checkpoint, folder / "repository", ExportOptions())
    return folder / "repository"


@pytest.fixture(scope="session")
def server(tiny_repository: Path) -> Iterator[ServerState]:
    """The real server on `tiny_repository`."""
    install()
    with running_server(tiny_repository) as state:
        yield state
