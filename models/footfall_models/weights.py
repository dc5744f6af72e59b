"""Weights: a model from any folder that holds its config.json and weights.safetensors: checkpoint or version."""

import json
from pathlib import Path

import safetensors.torch

from footfall.errors import InputError
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"


def load_config(folder: Path) -> ModelConfig:
    """Raises InputError where config.json holds a key this Footfall does not know."""
    options = json.loads((folder / CONFIG).read_text())
    try:
        return ModelConfig(**options)
    except TypeError as error:
        raise InputError(f"{folder / CONFIG} is not of this Footfall: {error}") from error


def load_weights(folder: Path) -> SequenceModel:
    """The model of any folder with config.json and weights.safetensors, in evaluation mode, on the CPU."""
    model = SequenceModel(load_config(folder))
    model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    return model.eval()
