"""Weights: a model from any folder that holds its config.json and weights.safetensors: checkpoint or version."""

import json
from pathlib import Path

import safetensors.torch

from footfall.errors import InputError
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
MODEL_NAMES = {
    "action_head.weight": "heads.action.linear.weight",
    "action_head.bias": "heads.action.linear.bias",
    "action_prior": "heads.action.prior",
    "action_scale": "heads.action.scale",
    "action_bias": "heads.action.bias",
}
"""Of tensors that the file calls otherwise than the model does: the file's names are older than heads."""
FILE_NAMES = {model: file for file, model in MODEL_NAMES.items()}


def load_config(folder: Path) -> ModelConfig:
    """Raises InputError where config.json holds a key this Footfall does not know."""
    options = json.loads((folder / CONFIG).read_text())
    try:
        # A config of before heads had names has the one there was.
        return ModelConfig(**{**options, "heads": tuple(options.get("heads", ("action",)))})
    except TypeError as error:
        raise InputError(f"{folder / CONFIG} is not of this Footfall: {error}") from error


def load_weights(folder: Path) -> SequenceModel:
    """The model of any folder with config.json and weights.safetensors, in evaluation mode, on the CPU.

    Raises InputError where they are not of this Footfall.
    """
    model = SequenceModel(load_config(folder))
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    weights = {MODEL_NAMES.get(name, name): tensor for name, tensor in weights.items()}
    if lacking := model.state_dict().keys() - weights.keys():
        raise InputError(f"{folder / WEIGHTS} is not of this Footfall: it lacks {', '.join(sorted(lacking))}")
    model.load_state_dict(weights)
    return model.eval()


def weights_file(model: SequenceModel) -> bytes:
    """The content of weights.safetensors."""
    weights = model.state_dict()
    return safetensors.torch.save({FILE_NAMES.get(name, name): tensor for name, tensor in weights.items()})
