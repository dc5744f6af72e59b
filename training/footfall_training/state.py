"""TrainingState: all that a killed run needs to go on to the same weights."""

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from footfall.errors import InputError
from footfall.folder import writing
from footfall_training.optimizers import Optimizers

STATE = "state.pt"
FORMAT = 2
"""Goes up when the same options train otherwise: other batches, losses, optimizer. 1, which states did not say, made
batches of so many windows."""
SAVED = "what was saved before is kept for --resume"


@dataclass
class TrainingState:
    """`batch` counts the batches done since the last of `epoch` whole epochs; best_* belong to the best validation.

    best_epoch: epochs done by then, 0 for the weights of a warm start.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_ndcg: float = -1.0
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def save_state(
    folder: Path,
    state: TrainingState,
    model: torch.nn.Module,
    optimizers: Optimizers,
    run: dict[str, Any],
) -> None:
    """Write the state aside and rename it, so that a kill or a full disk at any instant leaves the previous one."""
    content = {
        "format": FORMAT,
        "run": run,
        "state": vars(state),
        "model": model.state_dict(),
        "optimizers": optimizers.state_dict(),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all(),
    }
    # Through memory: of a full disk torch makes a RuntimeError, which could be any fault.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    aside = folder / f".{STATE}"
    try:
        with writing(folder / STATE, SAVED), aside.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
            aside.replace(folder / STATE)
    finally:
        aside.unlink(missing_ok=True)


def load_state(
    folder: Path,
    model: torch.nn.Module,
    optimizers: Optimizers,
    run: dict[str, Any],
) -> TrainingState:
    """Restore what `save_state` wrote, if anything; otherwise a state at the beginning.

    Raises InputError where it is of another format, or `run` (data set, model and options) is not the run saved.
    """
    path = folder / STATE
    if not path.exists():
        return TrainingState()
    content = torch.load(path, map_location="cpu", weights_only=True)
    if (found := content.get("format", 1)) != FORMAT:
        raise InputError(
            f"{folder} holds an unfinished run of format {found}, this Footfall trains as format {FORMAT} says and"
            " cannot go on with it; remove it, or finish it with the Footfall that began it"
        )
    changed = [key for key in run if content["run"].get(key) != run[key]]
    if changed:
        key = changed[0]
        raise InputError(
            f"{folder} was started with {key} {content['run'].get(key)!r}, not {run[key]!r}; resume it with"
            " the same options or remove it"
        )
    model.load_state_dict(content["model"])
    optimizers.load_state_dict(content["optimizers"])
    torch.set_rng_state(content["random"])
    if content["cuda_random"]:
        torch.cuda.set_rng_state_all(content["cuda_random"])
    return TrainingState(**content["state"])
