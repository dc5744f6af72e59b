"""A run whose losses, gradients or weights are no numbers any more stops, and keeps what was good."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from footfall_data.dataset import Dataset
from footfall_models.config import ModelConfig
from footfall_training.batches import Batch
from footfall_training.checkpoint import Checkpoint
from footfall_training.divergence import Diverged, DivergenceWatch
from footfall_training.options import TrainOptions
from footfall_training.train import Trainer, train

FOOTFALL = Path(sys.executable).with_name("footfall")
NAN, INF, FINE = torch.tensor(torch.nan), torch.tensor(-torch.inf), torch.tensor(3.0)


def config(data: Dataset) -> ModelConfig:
    return ModelConfig(len(data.items), len(data.actions), width=8, max_length=10)


def test_the_watch_names_the_first_bad_step_and_what_was_bad_in_it() -> None:
    watch = DivergenceWatch(("loss", "gradient"), torch.device("cpu"))
    for step, values in enumerate([(FINE, FINE), (FINE, INF), (NAN, INF), (FINE, FINE)], start=1):
        watch.look(step, values)
    assert watch.check() == (2, "gradient")


def test_the_watch_is_silent_while_everything_is_finite() -> None:
    watch = DivergenceWatch(("loss",), torch.device("cpu"))
    watch.look(1, (FINE,))
    assert watch.check() is None


def spoil_step(monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    """From step `bad` on the action loss is NaN, as a kernel's fault or an overflow makes it."""
    losses: Callable[[Trainer, Batch], dict[str, torch.Tensor]] = Trainer.losses

    def spoilt(trainer: Trainer, batch: Batch) -> dict[str, torch.Tensor]:
        found = losses(trainer, batch)
        return found | {"action": found["action"] * NAN} if trainer.state.step + 1 >= bad else found

    monkeypatch.setattr(Trainer, "losses", spoilt)


def test_a_run_that_diverges_keeps_its_best_weights_as_the_checkpoint(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainOptions(epochs=3, save_every=2, learning_rate=1e-2, warmup_steps=0)
    train(dataset, tmp_path / "one", config(dataset), TrainOptions(**{**vars(options), "epochs": 1}))
    steps = Trainer(dataset, tmp_path / "unused", config(dataset), options).num_batches
    spoil_step(monkeypatch, bad=steps + 2)
    with pytest.raises(Diverged) as raised:
        train(dataset, tmp_path / "c", config(dataset), options)
    said = str(raised.value)
    assert f"the action loss of step {steps + 2}, in epoch 2, is not finite at learning rate 0.00" in said
    assert f"{tmp_path / 'c'} holds the best weights before that, of epoch 1" in said
    checkpoint = Checkpoint.open(tmp_path / "c")
    assert checkpoint.metrics["best_epoch"] == checkpoint.metrics["epochs"] == 1
    assert checkpoint.metrics["diverged"] in said
    assert checkpoint.metrics["validation"]["ndcg@10"] > 0
    assert all(tensor.isfinite().all() for tensor in checkpoint.load_model().state_dict().values())
    # To resume could only diverge again: the run is over.
    assert [path.name for path in (tmp_path / "c.training").iterdir()] == ["tensorboard"]


def test_a_run_that_diverges_in_its_first_epoch_leaves_no_checkpoint(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_step(monkeypatch, bad=3)
    options = TrainOptions(epochs=2, save_every=1, learning_rate=1e-2, warmup_steps=0)
    with pytest.raises(
        Diverged, match=r"the action loss of step 3, in epoch 1, is not finite at learning rate 0\.0"
    ):
        train(dataset, tmp_path / "c", config(dataset), options)
    assert not (tmp_path / "c").exists()
    assert [path.name for path in (tmp_path / "c.training").iterdir()] == ["tensorboard"]


def test_a_state_is_never_saved_of_spoilt_weights(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_step(monkeypatch, bad=1)
    trainer = Trainer(dataset, tmp_path, config(dataset), TrainOptions())
    trainer.step(next(trainer.windows.epoch(128, 0, 0)))
    with pytest.raises(Diverged):
        trainer.save()
    assert not list(tmp_path.iterdir())


def test_weights_that_overflow_under_finite_gradients_are_told(dataset: Dataset, tmp_path: Path) -> None:
    options = TrainOptions(epochs=1, learning_rate=3e38, warmup_steps=0, batch_size=10_000)
    with pytest.raises(Diverged, match="train with a lower --learning-rate"):
        train(dataset, tmp_path / "c", config(dataset), options)
    assert not (tmp_path / "c").exists()


def test_the_command_says_it_in_one_sentence(dataset: Dataset, tmp_path: Path) -> None:
    rate = ("--learning-rate", "3e38", "--warmup-steps", "0")
    run = subprocess.run(
        [FOOTFALL, "train", dataset.folder, "--out", tmp_path / "c", "--width", "8", *rate],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "training diverged" in run.stderr
