"""Training: it learns, and a killed run goes on to the same weights."""

import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import safetensors.torch
import torch
from full_disk import on_a_full_disk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from footfall.errors import InputError
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import ModelConfig
from footfall_models.embedding.item_table import ItemRows
from footfall_models.registry import EncoderName
from footfall_models.weights import WEIGHTS
from footfall_training.checkpoint import Checkpoint
from footfall_training.evaluation import ranking
from footfall_training.evaluation.evaluation import evaluate
from footfall_training.evaluation.options import EvaluateOptions
from footfall_training.evaluation.ranking import Targets, rank_targets
from footfall_training.evaluation.scorer import ModelScorer
from footfall_training.options import LossName, TrainOptions
from footfall_training.state import STATE
from footfall_training.train import Trainer, train

FOOTFALL = Path(sys.executable).with_name("footfall")
ARGUMENTS = (
    "--width",
    "16",
    "--epochs",
    "2",
    "--batch-size",
    "32",
    "--save-every",
    "3",
    "--max-length",
    "10",
)


def write_log(path: Path, num_users: int, action: str = "view") -> Path:
    """Every user walks round the same ring of 12 items, from a place of their own."""
    rows = ["user_id,item_id,action,timestamp"]
    for user in range(num_users):
        rows += [f"u{user},i{(user + step) % 12},{action},{1_700_000_000 + 60 * step}" for step in range(9)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in `run_train`, for what trains in this process."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("ring")
    prepare([write_log(folder / "log.csv", 240)], folder / "dataset", PrepareOptions())
    return Dataset.open(folder / "dataset")


def config(data: Dataset) -> ModelConfig:
    return ModelConfig(len(data.items), len(data.actions), width=16, max_length=10, dropout=0.0)


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_a_ring_of_items_is_learnt_and_the_checkpoint_ranks_as_training_did(
    ring: Dataset, tmp_path: Path, loss: LossName
) -> None:
    options = TrainOptions(
        epochs=12, batch_size=16, learning_rate=1e-2, warmup_steps=5, loss=loss, num_negatives=8
    )
    metrics = train(ring, tmp_path / "checkpoint", config(ring), options)
    assert metrics["validation"]["recall@1"] > 0.95
    checkpoint = Checkpoint.open(tmp_path / "checkpoint")
    scorer = ModelScorer(checkpoint.load_model(), torch.device("cpu"), "reference")
    ranks = rank_targets(scorer, Targets.of(ring, "leave_one_out", "test"), len(ring.items))
    assert (ranks == 1).mean() > 0.95
    assert torch.isclose(checkpoint.load_model().item_popularity.exp().sum(), torch.tensor(1.0), atol=0.1)
    assert list((tmp_path / "checkpoint.training" / "tensorboard").iterdir())


@pytest.mark.parametrize("encoder", get_args(EncoderName))
def test_a_ring_is_learnt_in_bf16_too_and_by_either_encoder(
    ring: Dataset, tmp_path: Path, encoder: EncoderName
) -> None:
    options = TrainOptions(epochs=12, batch_size=16, learning_rate=1e-2, warmup_steps=5, precision="bf16")
    metrics = train(ring, tmp_path / "checkpoint", replace(config(ring), encoder=encoder), options)
    assert metrics["validation"]["recall@1"] > 0.95
    assert {
        weight.dtype for weight in Checkpoint.open(tmp_path / "checkpoint").load_model().parameters()
    } == {torch.float32}


@pytest.mark.parametrize(("loss", "encoder"), [("full", "softmax"), ("sampled", "hstu")])
def test_losses_and_gradients_by_the_triton_kernels_are_the_references(
    ring: Dataset, tmp_path: Path, loss: LossName, encoder: EncoderName
) -> None:
    sizes = replace(config(ring), width=64, encoder=encoder)
    found = []
    for implementation in get_args(ImplementationName):
        options = TrainOptions(batch_size=8, loss=loss, num_negatives=8, implementation=implementation)
        trainer = Trainer(ring, tmp_path / implementation, sizes, options)
        torch.manual_seed(1)
        losses = trainer.losses(next(trainer.windows.epoch(8, seed=0, epoch=0)))
        torch.autograd.backward(losses["item"] + losses["action"])
        found.append([*losses.values(), *(parameter.grad for parameter in trainer.model.parameters())])
    for reference, triton in zip(*found, strict=True):
        torch.testing.assert_close(triton, reference, atol=1e-4, rtol=1e-3)


@pytest.mark.gpu
def test_a_head_dim_without_kernels_trains_on_a_gpu_by_the_reference(ring: Dataset, tmp_path: Path) -> None:
    assert torch.cuda.is_available()
    options = TrainOptions(epochs=1, device="cuda", implementation="reference")
    train(ring, tmp_path / "c", config(ring), options)
    found = evaluate(tmp_path / "c", ring, EvaluateOptions(device="cuda", implementation="reference"))
    assert found["users"] == 240


def test_a_validation_brings_the_item_table_to_unit_length_once(
    ring: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "BATCH_SCORES", 13 * 20)  # 12 batches of 20 users
    trainer = Trainer(ring, tmp_path, config(ring), TrainOptions())
    tables = []
    forward = ItemRows.forward

    def counted(rows: ItemRows, table: torch.Tensor) -> torch.Tensor:
        tables.append(len(table))
        return forward(rows, table)

    monkeypatch.setattr(ItemRows, "forward", counted)
    trainer._metrics()
    assert tables == [13]


def test_trained_items_have_unit_length_and_padding_none(ring: Dataset, tmp_path: Path) -> None:
    train(ring, tmp_path / "c", config(ring), TrainOptions(epochs=1))
    model = Checkpoint.open(tmp_path / "c").load_model()
    lengths = model.item_table().norm(dim=1)
    torch.testing.assert_close(lengths, torch.tensor([0.0] + [1.0] * len(ring.items)))


def test_training_and_its_references_need_no_triton() -> None:
    code = "import sys; sys.modules['triton'] = None; import footfall_training.train, footfall_engines.torch_engine"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_commands_help_needs_no_torch() -> None:
    code = "import sys, footfall_cli.main; print({'torch', 'polars'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def run_train(dataset: Dataset, out: Path, *extra: str) -> "subprocess.Popen[str]":
    command = [str(FOOTFALL), "train", str(dataset.folder), "--out", str(out), *ARGUMENTS, *extra]
    # One thread: two that wait for each other on a busy machine take many times as long over matrices this small.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(checkpoint / WEIGHTS)


def assert_same_weights(one: Path, other: Path) -> None:
    expected, found = weights(one), weights(other)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def kill_once_there(run: "subprocess.Popen[str]", path: Path) -> None:
    while not path.exists():
        assert run.poll() is None
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole") / "checkpoint"
    assert run_train(dataset, out).wait() == 0
    return out


def test_a_killed_run_resumes_to_bit_equal_weights(dataset: Dataset, whole: Path, tmp_path: Path) -> None:
    state = tmp_path / "killed.training" / "state.pt"
    kill_once_there(run_train(dataset, tmp_path / "killed"), state)
    assert not (tmp_path / "killed").exists()
    assert 0 < torch.load(state, weights_only=True)["state"]["step"] < 2 * 29
    again = run_train(dataset, tmp_path / "killed")
    assert again.wait() == 1
    assert again.stderr is not None
    assert "--resume" in again.stderr.read()
    assert run_train(dataset, tmp_path / "killed", "--resume").wait() == 0
    assert_same_weights(whole, tmp_path / "killed")


def test_a_run_killed_before_its_first_state_starts_anew(
    dataset: Dataset, whole: Path, tmp_path: Path
) -> None:
    kill_once_there(run_train(dataset, tmp_path / "killed"), tmp_path / "killed.training")
    assert not (tmp_path / "killed.training" / "state.pt").exists()
    assert run_train(dataset, tmp_path / "killed", "--resume").wait() == 0
    assert_same_weights(whole, tmp_path / "killed")


def test_a_finished_run_does_not_stand_in_the_way_of_the_next(ring: Dataset, tmp_path: Path) -> None:
    train(ring, tmp_path / "c", config(ring), TrainOptions(epochs=1))
    with pytest.raises(InputError, match="exists already"):
        train(ring, tmp_path / "c", config(ring), TrainOptions(epochs=1))
    (tmp_path / "c").rename(tmp_path / "kept")
    train(ring, tmp_path / "c", config(ring), TrainOptions(epochs=1))
    assert_same_weights(tmp_path / "kept", tmp_path / "c")


def test_resuming_with_other_options_is_refused(ring: Dataset, tmp_path: Path) -> None:
    (tmp_path / "c.training").mkdir()
    trainer = Trainer(ring, tmp_path / "c.training", config(ring), TrainOptions(epochs=1))
    trainer.save()
    with pytest.raises(InputError, match="seed 0, not 5"):
        train(ring, tmp_path / "c", config(ring), TrainOptions(epochs=1, seed=5), resume=True)


@pytest.mark.parametrize(("written", "said"), [({}, 1), ({"format": 99}, 99)])  # the first said none
def test_resuming_a_run_that_another_footfall_began_is_refused(
    written: dict[str, int], said: int, ring: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "c.training"
    folder.mkdir()
    Trainer(ring, folder, config(ring), TrainOptions(epochs=1)).save()
    content = torch.load(folder / STATE, weights_only=True)
    del content["format"]
    torch.save(content | written, folder / STATE)
    before = (folder / STATE).read_bytes()
    with pytest.raises(InputError, match=f"{folder} holds an unfinished run of format {said}, this Footfall"):
        train(ring, tmp_path / "c", config(ring), TrainOptions(epochs=1), resume=True)
    assert (folder / STATE).read_bytes() == before


@pytest.mark.parametrize("limit_bytes", [300, 20_000])  # the scalars meet the first, the state the second
def test_a_full_disk_is_one_sentence_and_leaves_no_checkpoint(
    limit_bytes: int, ring: Dataset, tmp_path: Path
) -> None:
    run = on_a_full_disk(limit_bytes, "train", ring.folder, "--out", tmp_path / "c", *ARGUMENTS)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "cannot be written" in run.stderr
    assert not (tmp_path / "c").exists()
    assert [path.name for path in (tmp_path / "c.training").iterdir()] == ["tensorboard"]


def test_a_state_that_cannot_be_written_leaves_the_one_before_and_says_so(
    ring: Dataset, tmp_path: Path
) -> None:
    trainer = Trainer(ring, tmp_path, config(ring), TrainOptions(epochs=1))
    trainer.save()
    before = (tmp_path / "state.pt").read_bytes()
    trainer.state.step = 7
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(InputError, match=r"state\.pt cannot be written, what was saved before is kept"):
            trainer.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert (tmp_path / "state.pt").read_bytes() == before


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        "user_id,item_id,timestamp\nu,i,1700000005\nu,j,1700000060\nv,i,1700000005\nv,j,1700000060\n"
    )
    prepare([log], tmp_path / "dataset", PrepareOptions())
    data = Dataset.open(tmp_path / "dataset")
    with pytest.raises(InputError, match="no user with a validation event"):
        train(data, tmp_path / "c", config(data), TrainOptions(epochs=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "log.csv"]


def test_a_file_in_the_way_of_the_checkpoint_is_named(ring: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file where a folder is needed"):
        train(ring, tmp_path / "file" / "c", config(ring), TrainOptions(epochs=1))


def test_scalars_are_written_from_the_first_batch_on(ring: Dataset, tmp_path: Path) -> None:
    train(ring, tmp_path / "c", config(ring), TrainOptions(epochs=1, warmup_steps=4, batch_size=64))
    events = EventAccumulator(str(tmp_path / "c.training" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/learning_rate")] == [
        (1, pytest.approx(2e-3 / 4))
    ]
    assert {event.step for event in events.Scalars("train/item")} == {1}


def test_one_action_and_users_with_one_event_train(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", 30, "purchase")
    log.write_text(log.read_text() + "loner,i1,purchase,1700000000\n")
    prepare([log], tmp_path / "dataset", PrepareOptions(k_core=1))
    data = Dataset.open(tmp_path / "dataset")
    train(data, tmp_path / "checkpoint", config(data), TrainOptions(epochs=1))
    assert Checkpoint.open(tmp_path / "checkpoint").load_model().head("action").prior.tolist() == [1.0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"max_grad_norm": -1.0}, "max_grad_norm is -1"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"weight_decay": math.nan}, "weight_decay is nan"),
        ({"head_weight": -1.0}, "head_weight is -1"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**70}, "seed is 1180591620717411303424"),
        ({"device": "nonsense"}, "unknown device 'nonsense'; there are cpu, cuda and cuda:N"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"split": "random"}, "unknown split 'random'"),
    ],
)
def test_impossible_options_are_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        TrainOptions(**change)  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there_is_said(ring: Dataset, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    run = run_train(ring, tmp_path / "c", "--device", "cuda")
    assert run.wait() == 1
    assert run.stderr is not None
    assert "asks for a GPU" in run.stderr.read()
    assert not list(tmp_path.iterdir())
