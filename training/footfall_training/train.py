"""Training: the loop from a data set to a checkpoint, and how it resumes."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from footfall.contract import NUM_GAPS, UNKNOWN_GAP
from footfall.errors import InputError
from footfall.folder import make_folder, writing
from footfall.history import Asked, Histories, newest, time_gaps
from footfall.metrics import ranking_metrics
from footfall_data.dataset import Dataset, SplitName
from footfall_data.splits import training_histories
from footfall_models.config import ModelConfig
from footfall_models.device import find_device, implementation_on
from footfall_models.heads.head import NextEvents
from footfall_models.model import SequenceModel
from footfall_models.registry import find_encoder
from footfall_training.batches import Batch, Windows
from footfall_training.calibration import calibrate
from footfall_training.checkpoint import Checkpoint, save_checkpoint
from footfall_training.divergence import Diverged, DivergenceWatch, first_not_finite
from footfall_training.evaluation.ranking import Targets, rank_targets
from footfall_training.evaluation.scorer import ModelScorer
from footfall_training.losses import DRAWS, LOSSES, Choice
from footfall_training.moments import calibration_moments
from footfall_training.negatives import Negatives
from footfall_training.objectives import find_objective
from footfall_training.optimizers import Optimizers
from footfall_training.options import TrainOptions
from footfall_training.progress import SCALARS_EVERY, TrainingProgress
from footfall_training.state import SAVED, STATE, load_state, save_state
from footfall_training.touched import Touched
from footfall_training.warm_start import check_source, start_from

NUM_SAMPLES = 256
"""Real histories a checkpoint carries for parity reports and canaries."""
LEAST_WAITS = 100
"""Of one bucket, before a model is told of it."""
FINAL_RATE = 0.1
"""The cosine schedule ends at this share of the learning rate."""


def train(
    dataset: Dataset,
    out: Path,
    config: ModelConfig,
    options: TrainOptions,
    *,
    resume: bool = False,
    source: Checkpoint | None = None,
) -> dict[str, Any]:
    """Train on `dataset` and write a finished checkpoint to `out`; returns its metrics.

    source: the checkpoint of the same lineage whose weights the model begins with; then `out` is no worse on the
    validation than these are. Raises InputError where they do not fit or have learnt what the split holds out.

    The run's state lies in `<out>.training` until then; `resume` goes on from it to the same weights, bit-equal
    on a CPU; its TensorBoard scalars stay. Raises InputError where such a state or `out` is in the way, or the
    disk is full, NotReadyError where the device is not there, and Diverged where a loss or gradient is not finite:
    then `out` holds the best weights so far, if any epoch was validated, and no state is kept, as to resume would
    only repeat it.
    """
    folder = out.with_name(f"{out.name}.training")
    if out.exists():
        raise InputError(f"{out} exists already; name another folder")
    if (folder / STATE).exists() and not resume:
        raise InputError(f"{folder} holds an unfinished run; go on with --resume or remove it")
    trainer = Trainer(dataset, folder, config, options, source)
    make_folder(folder)
    try:
        with writing(folder, SAVED):
            metrics = trainer.run()
    except Diverged:
        (folder / STATE).unlink(missing_ok=True)
        raise
    trainer.model.for_serving()
    moments = calibration_moments(dataset, options.split, options.validation_users, options.seed)
    calibrate(trainer.model, moments, trainer.device, trainer.implementation)
    fill_priors(trainer.model, dataset, options.split)
    asked = Targets.of(dataset, options.split, "validation", NUM_SAMPLES)
    samples = Asked(newest(asked.histories, config.max_length), asked.now)
    learnt = source.learnt if source else None
    save_checkpoint(out, trainer.model.cpu(), dataset, samples, metrics, options, source=learnt)
    (folder / STATE).unlink()
    if metrics["diverged"]:
        raise Diverged(
            f"{metrics['diverged']}; {out} holds the best weights before that, of epoch {metrics['best_epoch']}"
        )
    return metrics


class Trainer:
    """One run: model, optimizer, data and how far it is."""

    def __init__(
        self,
        dataset: Dataset,
        folder: Path,
        config: ModelConfig,
        options: TrainOptions,
        source: Checkpoint | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        objective = find_objective(options.objective, find_encoder(config.encoder), config.positions)
        config = replace(config, appends=objective.appends)
        self._last_only = objective.tells == "last event"
        self.folder, self.config, self.options = folder, config, options
        self.device = find_device(options.device)
        self.implementation = implementation_on(self.device, options.implementation)
        self.model = SequenceModel(config)
        training = training_histories(dataset, options.split)
        count = np.bincount(training.item, minlength=config.num_items + 1)
        read = torch.from_numpy(count > 0)
        if source is not None:
            check_source(source, dataset, config, options.split)
            read |= start_from(self.model, source)
        self.model.to(self.device)
        self._is_warm = source is not None
        self.model.for_training(read)
        train_end = dataset.split(options.split).train_end
        self.windows = Windows.cut(dataset.histories, train_end, config.max_length, objective)
        self.validation = Targets.of(dataset, options.split, "validation", options.validation_users)
        self.num_batches = self.windows.num_batches(options.batch_size)
        remember_waits(self.model, training)
        # A loss that draws touches few items a step; then nothing in it passes over the table.
        draws = options.loss in DRAWS
        self._negatives = Negatives(count, options.num_negatives) if draws else None
        self.optimizers = Optimizers(self.model, options, self.model.item_ids() if draws else None)
        self._identity = {
            "dataset": dataset.fingerprint,
            "from": source.weights_fingerprint if source else None,
            **asdict(config),
            **asdict(options),
        }
        self._watch = DivergenceWatch(
            ("item loss", *(f"{name} loss" for name in config.heads), "gradient"), self.device
        )
        self.state = load_state(folder, self.model, self.optimizers, self._identity)

    def run(self) -> dict[str, Any]:
        """Train until the last epoch or until validation has not improved for `patience` epochs.

        Raises Diverged where a loss or gradient is not finite before any epoch was validated; if later, "diverged"
        tells it.
        """
        done = self.state.step
        diverged = None
        with TrainingProgress(self.folder, self.options.epochs, self.num_batches, done) as progress:
            try:
                if self._is_warm and self.state.step == 0:
                    self._validate(progress)
                while self.state.epoch < self.options.epochs and not self._stalled():
                    self._train_epoch(progress)
                    self._validate(progress)
            except Diverged as error:
                if not self.state.best_weights:
                    raise
                diverged = str(error)
            self.model.load_state_dict(self.state.best_weights)
            return {
                "diverged": diverged,
                "validation": self._metrics(),
                "best_epoch": self.state.best_epoch,
                "epochs": self.state.epoch,
                "events_per_second": progress.events / max(progress.seconds, 1e-9),
            }

    def _stalled(self) -> bool:
        return self.state.epoch - self.state.best_epoch >= self.options.patience

    def _train_epoch(self, progress: TrainingProgress) -> None:
        options, state = self.options, self.state
        self.model.train()
        for batch in self.windows.epoch(options.batch_size, options.seed, state.epoch, skip=state.batch):
            progress.start_batch()
            losses = self.step(batch)
            state.batch += 1
            state.step += 1
            rate = options.learning_rate * self._rate(state.step - 1)
            progress.batch(state.epoch, state.step, len(batch.next_item), losses, rate)
            if state.step % SCALARS_EVERY == 0:  # where progress waits for the device anyway
                self._check_finite()
            if state.step % options.save_every == 0:
                self.save()
        self._check_finite()
        state.epoch, state.batch = state.epoch + 1, 0

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the weights by a batch on the host; the losses before it."""
        losses = self.losses(batch)
        others = [losses[name] for name in self.config.heads]
        self.optimizers.zero_grad()
        torch.autograd.backward(losses["item"] + self.options.head_weight * sum(others))
        norm = self.optimizers.step(self._rate(self.state.step))
        self._watch.look(self.state.step + 1, (*losses.values(), norm))
        return {name: loss.detach() for name, loss in losses.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The item loss of a batch on the host, and each head's."""
        dtype = torch.bfloat16 if self.options.precision == "bf16" else torch.float32
        touched = Touched.by(batch, self._negatives).to(self.device)
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            table = self.model.item_table(touched.rows)  # of input and output
            inputs = replace(batch.inputs, item=touched.read)
            hidden = self.model.encode(inputs, self.implementation, table, last_only=self._last_only)
            if batch.scored is not None and not self._last_only:
                hidden = hidden[batch.scored]
        choice = Choice(
            hidden.to(dtype),
            table.to(dtype),
            touched.target,
            self.implementation,
            touched.negative,
            touched.log_q,
        )
        item = LOSSES[self.options.loss](choice)
        following = NextEvents(batch.next_item, batch.next_action)
        heads = {name: self.model.head(name).loss(hidden, following) for name in self.config.heads}
        return {"item": item, **heads}

    def _rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to FINAL_RATE."""
        if step < self.options.warmup_steps:
            return (step + 1) / self.options.warmup_steps
        total = self.num_batches * self.options.epochs
        progress = (step - self.options.warmup_steps) / max(total - self.options.warmup_steps, 1)
        return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def _check_finite(self) -> None:
        """Raises Diverged with the first step that was not; every step counts its own rate, from 1."""
        if (bad := self._watch.check()) is not None:
            step, what = bad
            rate = self.options.learning_rate * self._rate(step - 1)
            raise Diverged(
                f"training diverged: the {what} of step {step}, in epoch {self.state.epoch + 1}, is not finite at"
                f" learning rate {rate:.3g}; train with a lower --learning-rate"
            )

    def _validate(self, progress: TrainingProgress) -> None:
        """Keep the weights where they are the best so far."""
        state = self.state
        if (name := first_not_finite(self.model)) is not None:
            raise Diverged(
                f"training diverged: after step {state.step}, in epoch {state.epoch}, {name} is not finite;"
                " train with a lower --learning-rate"
            )
        metrics = self._metrics()
        progress.validation(state.epoch, state.step, metrics)
        if metrics["ndcg@10"] > state.best_ndcg:
            weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            state.best_ndcg, state.best_epoch, state.best_weights = metrics["ndcg@10"], state.epoch, weights
        self.save()

    def _metrics(self) -> dict[str, float]:
        scorer = ModelScorer(self.model, self.device, self.implementation)
        with parametrize.cached():  # the item table's unit rows, once for all batches
            return ranking_metrics(rank_targets(scorer, self.validation, self.config.num_items))

    def save(self) -> None:
        self._check_finite()
        save_state(self.folder, self.state, self.model, self.optimizers, self._identity)


def remember_waits(model: SequenceModel, training: Histories) -> None:
    """Which waits for a next event are frequent enough in training to say anything; others count as unknown."""
    count = np.bincount(time_gaps(training), minlength=NUM_GAPS)
    count[UNKNOWN_GAP] = 0
    model.wait_is_known.copy_(torch.from_numpy(count >= LEAST_WAITS))


def fill_priors(model: SequenceModel, dataset: Dataset, split: SplitName) -> None:
    """What to answer for an empty history: the log share of every item, add-one smoothed, and each head's prior."""
    training = training_histories(dataset, split)
    items = np.bincount(training.item, minlength=model.config.num_items + 1) + 1.0
    model.item_popularity.copy_(torch.from_numpy(np.log(items / items.sum())))
    for name in model.config.heads:
        model.head(name).set_prior(training)
