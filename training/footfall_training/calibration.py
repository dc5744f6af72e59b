"""Calibration: make what the heads say agree with what really happens next."""

import torch

from footfall_kernels.implementations import ImplementationName
from footfall_models.heads.head import NextEvents
from footfall_models.model import SequenceModel
from footfall_training.evaluation.ranking import Targets
from footfall_training.evaluation.scorer import ModelScorer


def calibrate(
    model: SequenceModel, targets: Targets, device: torch.device, implementation: ImplementationName
) -> None:
    """Calibrate every head on validation targets."""
    hidden = ModelScorer(model, device, implementation).hidden(targets.histories, targets.now)
    item, action = (
        torch.from_numpy(column.astype("int64")).to(device)
        for column in (targets.next_item, targets.next_action)
    )
    for name in model.config.heads:
        model.head(name).calibrate(hidden.clone(), NextEvents(item, action))
