"""Mix: a checkpoint's training events, by item and by action, as its model remembers them for who has no history."""

import torch

from footfall_engines.mix import TrainingMix
from footfall_models.model import SequenceModel
from footfall_training.checkpoint import Checkpoint


def training_mix(checkpoint: Checkpoint, model: SequenceModel) -> TrainingMix:
    """`model` is the checkpoint's."""
    share = torch.exp(model.item_popularity.double())
    # Add-one smoothed (see train.fill_priors), and of padding there are no events.
    events = torch.round(share / share[0] - 1).long()
    return TrainingMix.of(events.numpy(), _actions(checkpoint, model))


def _actions(checkpoint: Checkpoint, model: SequenceModel) -> dict[str, float]:
    if "action" not in model.config.heads:
        return {}
    names = [name.decode() for name in checkpoint.actions]
    return dict(zip(names, model.head("action").prior.tolist(), strict=True))
