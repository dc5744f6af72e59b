"""Preset: the sizes and options that a family is trained with, by name."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, get_args

from footfall.errors import check_choice

PresetName = Literal["sasrec", "hstu", "gru4rec", "nextitnet", "bsarec"]


@dataclass(frozen=True)
class Preset:
    """sizes: fields of a ModelConfig; training: of a TrainOptions. What is not named is as without a preset."""

    sizes: dict[str, Any]
    training: dict[str, Any]

    @classmethod
    def named(cls, name: PresetName) -> "Preset":
        """Raises InputError where there is none of that name."""
        check_choice("preset", name, get_args(PresetName))
        text = files("footfall_training.presets").joinpath(f"{name}.toml").read_text()
        return cls(**tomllib.loads(text))


NO_PRESET = Preset({}, {})
