"""Checkpoint: a trained model with everything needed to export it, as a sealed folder."""

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from footfall.folder import read_manifest, write_manifest, written_aside
from footfall.history import Histories, HistoryRules
from footfall.vocabulary import Vocabulary
from footfall_data.dataset import Dataset
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel
from footfall_models.weights import CONFIG, WEIGHTS, load_config, load_weights, weights_file

KIND = "checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """Files: config.json, weights.safetensors, items/, actions/, items.parquet, samples.npz, metrics.json."""

    folder: Path
    manifest: dict[str, Any]

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

    @cached_property
    def items(self) -> Vocabulary:
        return Vocabulary.load(self.folder / "items")

    @cached_property
    def actions(self) -> Vocabulary:
        return Vocabulary.load(self.folder / "actions")

    @property
    def rules(self) -> HistoryRules:
        return HistoryRules(repeat_ms=self.manifest["repeat_ms"])

    @property
    def lineage(self) -> str:
        return str(self.manifest["lineage"])

    @cached_property
    def samples(self) -> Histories:
        """Real histories kept for parity reports and canaries."""
        with np.load(self.folder / "samples.npz") as arrays:
            return Histories(arrays["item"], arrays["action"], arrays["time"], arrays["offsets"])

    @cached_property
    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text())
        return metrics


def save_checkpoint(
    target: Path,
    model: SequenceModel,
    dataset: Dataset,
    samples: Histories,
    metrics: dict[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write `model` and what it needs of `dataset` as one finished folder."""
    with written_aside(target, overwrite=overwrite) as folder:
        (folder / CONFIG).write_text(json.dumps(asdict(model.config), indent=2) + "\n")
        (folder / WEIGHTS).write_bytes(weights_file(model))
        dataset.items.save(folder / "items")
        dataset.actions.save(folder / "actions")
        shutil.copyfile(dataset.folder / "items.parquet", folder / "items.parquet")
        np.savez(
            folder / "samples.npz",
            item=samples.item,
            action=samples.action,
            time=samples.time,
            offsets=samples.offsets,
        )
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        facts = {
            "lineage": dataset.lineage,
            "repeat_ms": dataset.rules.repeat_ms,
            "dataset": dataset.items.fingerprint(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_manifest(folder, KIND, facts)
