"""Checkpoint: a trained model with everything needed to export it, as a sealed folder."""

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from footfall.errors import InputError
from footfall.folder import MANIFEST, read_manifest, write_manifest, written_aside
from footfall.history import Asked, Histories
from footfall.sealed import Sealed
from footfall_data.dataset import Dataset
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel
from footfall_models.weights import CONFIG, WEIGHTS, load_config, load_weights, weights_file
from footfall_training.learnt import Learnt
from footfall_training.options import TrainOptions

KIND = "checkpoint"


class Checkpoint(Sealed):
    """A trained model. config.json tells its family (encoder) and heads; manifest.json the training options,
    among them objective, split and seed, and what it has learnt from (see Learnt).

    Files: config.json, weights.safetensors, items/, actions/, items.parquet, samples.npz, metrics.json.
    """

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Raises InputError where `folder` is not a finished checkpoint."""
        return cls(folder, read_manifest(folder, KIND))

    @cached_property
    def config(self) -> ModelConfig:
        return load_config(self.folder)

    def load_model(self) -> SequenceModel:
        """The model in evaluation mode, on the CPU."""
        return load_weights(self.folder)

    @property
    def options(self) -> TrainOptions:
        """How it was trained. Raises InputError where an option is none of this Footfall's."""
        try:
            return TrainOptions(**self.manifest["options"])
        except TypeError as error:
            raise InputError(f"{self.folder / MANIFEST} is not of this Footfall: {error}") from error

    @property
    def weights_fingerprint(self) -> str:
        """SHA-256, hexadecimal."""
        return str(self.manifest["files"][WEIGHTS]["sha256"])

    @property
    def learnt(self) -> Learnt:
        return Learnt(**self.manifest["learnt"])

    @cached_property
    def samples(self) -> Asked:
        """Real histories kept for parity reports and canaries."""
        with np.load(self.folder / "samples.npz") as arrays:
            histories = Histories(arrays["item"], arrays["action"], arrays["time"], arrays["offsets"])
            return Asked(histories, arrays["now"])

    @cached_property
    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text())
        return metrics


def save_checkpoint(
    target: Path,
    model: SequenceModel,
    dataset: Dataset,
    samples: Asked,
    metrics: dict[str, Any],
    options: TrainOptions,
    *,
    source: Learnt | None = None,
    overwrite: bool = False,
) -> None:
    """Write `model` and what it needs of `dataset` as one finished folder.

    source: what the checkpoint that training began with had learnt. Raises InputError where a weight is not finite.
    """
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise InputError(f"{target} is not written: {name} of its model is not finite")
    with written_aside(target, overwrite=overwrite) as folder:
        (folder / CONFIG).write_text(json.dumps(asdict(model.config), indent=2) + "\n")
        (folder / WEIGHTS).write_bytes(weights_file(model))
        dataset.items.save(folder / "items")
        dataset.actions.save(folder / "actions")
        shutil.copyfile(dataset.folder / "items.parquet", folder / "items.parquet")
        np.savez(
            folder / "samples.npz",
            **vars(samples.histories),
            now=samples.now,
        )
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        facts = {
            "lineage": dataset.lineage,
            "repeat_ms": dataset.rules.repeat_ms,
            "options": asdict(options),
            "learnt": asdict(Learnt.of(dataset, options.split, source)),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_manifest(folder, KIND, facts)
