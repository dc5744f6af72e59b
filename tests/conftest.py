"""Fixtures every test file may use: a small shop, a checkpoint and a repository made of it, a running server."""

import os

# Read when triton is imported: kernels run in its interpreter, on CPU tensors; `make test-gpu` sets 0.
os.environ.setdefault("TRITON_INTERPRET", "1")
# Read when torch is imported, here and by what tests start: where cores are contended, two threads lose tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from footfall.contract import GRPC_KEY_HEADER
from footfall.folder import write_manifest
from footfall.history import Asked, newest
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_data.shop.options import SimulateOptions
from footfall_data.shop.simulate import simulate
from footfall_engines.model_configs import num_instances
from footfall_engines.repository import Repository
from footfall_engines.version import Version
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel
from footfall_models.registry import EncoderName
from footfall_serving.install import install
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.server import running_server
from footfall_serving.state import STATE_FILE, ServerState
from footfall_serving.stubs import Stub, live_stubs
from footfall_training.checkpoint import save_checkpoint
from footfall_training.evaluation.ranking import Targets
from footfall_training.options import TrainOptions
from footfall_training.train import fill_priors

ROOT = Path(__file__).resolve().parent.parent
MAX_LENGTH = 20
DEVICE = "cuda" if os.environ["TRITON_INTERPRET"] == "0" else "cpu"
"""Where the tests of the kernels run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a kernel's grid the interpreter gets a sample; without the interpreter its tests are tests of the GPU."""
    if os.environ["TRITON_INTERPRET"] == "0":
        for item in items:
            if item.get_closest_marker("kernels"):
                item.add_marker(pytest.mark.gpu)
    else:
        for item in _beyond_sample(items):
            item.add_marker(pytest.mark.slow)


def _beyond_sample(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Cases of a kernel's grid in which no parameter has a value that the same test has not had before."""
    covered: set[tuple[str, str, str]] = set()
    for item in items:
        if (
            item.get_closest_marker("kernels")
            and isinstance(item, pytest.Function)
            and hasattr(item, "callspec")
        ):
            test = item.nodeid.partition("[")[0]
            values = {(test, name, repr(value)) for name, value in item.callspec.params.items()}
            if values <= covered:
                yield item
            covered |= values


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


def make_checkpoint(
    out: Path, dataset: Dataset, seed: int, encoder: EncoderName = "softmax", unlisted: Sequence[int] = ()
) -> Path:
    """A checkpoint with random weights: all that export and serving care about, without training.

    unlisted: item indices that, say, training never read.
    """
    torch.manual_seed(seed)
    config = ModelConfig(
        len(dataset.items), len(dataset.actions), width=16, max_length=MAX_LENGTH, encoder=encoder
    )
    model = SequenceModel(config)
    torch.nn.init.normal_(model.item_embedding.weight, std=0.25)  # rows about as long as trained ones: 1
    for name, parameter in model.named_parameters():
        if name.endswith(("_bias", "wait_embedding.weight")):  # these tables start at 0
            torch.nn.init.normal_(parameter, std=0.5)
    fill_priors(model, dataset, "leave_one_out")
    model.item_listed[list(unlisted)] = False
    asked = Targets.of(dataset, "leave_one_out", "validation", 64)
    samples = Asked(newest(asked.histories, MAX_LENGTH), asked.now)
    save_checkpoint(out, model, dataset, samples, {"validation": {"ndcg@10": 0.0}}, TrainOptions())
    return out


@pytest.fixture(scope="session")
def tiny_checkpoint(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "checkpoint", dataset, seed=0)


@pytest.fixture(scope="session")
def tiny_repository(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of the checkpoint, live. Do not change it: copy it."""
    repository = tmp_path_factory.mktemp("repository") / "model_repository"
    export(tiny_checkpoint, repository, ExportOptions())
    version = Repository(repository).version(1)
    Repository(repository).write_configs([version], version)
    return repository


@pytest.fixture(scope="session")
def three_versions(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of three versions of unlike weights, none of them live. Do not change it: copy it."""
    folder = tmp_path_factory.mktemp("three")
    for seed in (1, 2, 3):
        checkpoint = make_checkpoint(folder / f"checkpoint{seed}", dataset, seed)
        export(checkpoint, folder / "repository", ExportOptions())
    return folder / "repository"


def reseal(folder: Path, **changes: Any) -> None:
    """Make a version whole again whose files or manifest fields were changed."""
    manifest = json.loads((folder / "manifest.json").read_text())
    kept = {name: value for name, value in manifest.items() if name not in ("kind", "format", "files")}
    write_manifest(folder, "version", kept | changes)


def make_unloadable(folder: Path) -> None:
    """A whole version, as far as its manifest tells, whose engine does not load."""
    (folder / "model.onnx").write_bytes(b"nonsense")
    reseal(folder)


def copied(repository: Path, to: Path) -> Path:
    """A copy to change, without the state of a server that runs on the original."""
    return Path(shutil.copytree(repository, to, ignore=shutil.ignore_patterns(STATE_FILE)))


@pytest.fixture(scope="session")
def server(tiny_repository: Path) -> Iterator[ServerState]:
    """The real server on `tiny_repository`."""
    install()
    with running_server(tiny_repository) as state:
        yield state


@pytest.fixture(scope="session")
def server_with_ranker(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerState]:
    """The real server on a version whose ranker is apart; beside it stands the postprocess of a native plan."""
    install()
    folder = tmp_path_factory.mktemp("apart") / "model_repository"
    export(tiny_checkpoint, folder, ExportOptions(engine="torch"))
    repository = Repository(folder)
    version = repository.version(1)
    repository.write_configs([version], version)
    with running_server(folder) as state, RepositoryApi(state) as api:
        native = Version(version.folder, version.manifest | {"backend": "tensorrt"})
        Repository(folder / "native").write_step_configs([native])
        Repository(folder / "native").write_adaptors(1, native.steps)
        shutil.move(folder / "native" / "postprocess", folder / "postprocess")
        api.load("postprocess")
        yield state


@pytest.fixture(scope="session")
def ids(tiny_repository: Path) -> list[str]:
    """What `tiny_repository` knows."""
    return [id_.decode() for id_ in Repository(tiny_repository).version(1).items]


def post(url: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"http://{url}", json.dumps(body).encode(), headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def key_of(server: ServerState) -> dict[str, str]:
    """The header that opens over gRPC what is closed."""
    return {GRPC_KEY_HEADER: server.repository_key}


def infer(server: ServerState, *inputs: tuple[str, str, list[Any]]) -> tuple[int, dict[str, Any]]:
    body = {
        "inputs": [
            {"name": name, "datatype": kind, "shape": [1, len(data)], "data": data}
            for name, kind, data in inputs
        ]
    }
    return post(f"{server.http_url}/v2/models/footfall/infer", body)


PATIENCE_S = 120.0
"""Of who waits for what must come, on a busy machine too: it tells a hang, and measures nothing."""


def eventually(check: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.1)
    return False


def a_stub(server_pid: int, model: str, version: int) -> Stub:
    """One of a model's version. What a load replaces lives on for a second, so it waits until none is too many."""
    found: list[Stub] = []

    def look() -> bool:
        stubs = live_stubs(server_pid)
        found[:] = [stub for stub in stubs if (stub.model, stub.version) == (model, version)]
        return len(found) == num_instances(model)

    assert eventually(look), found
    return found[0]


@dataclass(frozen=True)
class HeldLoad:
    """A load that stands still in its stub until `go_on`."""

    reached: Path
    released: Path

    def wait(self) -> None:
        """Until the stub has come to it."""
        assert eventually(self.reached.exists), "the load was never reached"

    def go_on(self) -> None:
        self.released.touch()


def hold_load(adaptor: Path, folder: Path) -> HeldLoad:
    """Have the loads of this model.py wait."""
    held = HeldLoad(folder / "load.reached", folder / "load.released")
    adaptor.write_text(
        "import pathlib, time\n"
        f"pathlib.Path({str(held.reached)!r}).touch()\n"
        f"while not pathlib.Path({str(held.released)!r}).exists():\n"
        "    time.sleep(0.05)\n" + adaptor.read_text()
    )
    return held
