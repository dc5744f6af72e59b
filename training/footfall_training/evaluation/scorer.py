"""ModelScorer: a SequenceModel as evaluation and calibration see it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footfall.history import Histories, model_input, slices
from footfall_kernels.implementations import ImplementationName
from footfall_models.inputs import PackedInputs
from footfall_models.model import SequenceModel

BATCH_HISTORIES = 512


@dataclass(frozen=True)
class ModelScorer:
    """Expects non-empty histories."""

    model: SequenceModel
    device: torch.device
    implementation: ImplementationName

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """Of every item: float32 [users, num_items + 1]."""
        with torch.inference_mode():
            scores: NDArray[np.float32] = (self.hidden(histories) @ self.model.item_table().T).cpu().numpy()
        return scores

    def action_probability(self, histories: Histories) -> NDArray[np.float64]:
        """Of each next action, calibrated: float64 [users, num_actions]."""
        with torch.inference_mode():
            probability = self.model.head("action").describe(self.hidden(histories))
        said: NDArray[np.float64] = probability.double().cpu().numpy()
        return said

    def hidden(self, histories: Histories) -> Tensor:
        """The state after each history's last event: float [users, width], on the model's device."""
        self.model.eval()
        offsets = histories.offsets
        parts = []
        with torch.inference_mode():
            for start in range(0, histories.num_users, BATCH_HISTORIES):
                end = min(start + BATCH_HISTORIES, histories.num_users)
                parts.append(
                    self._encode(slices(histories, offsets[start:end], offsets[start + 1 : end + 1]))
                )
        return torch.cat(parts)

    def _encode(self, histories: Histories) -> Tensor:
        inputs = PackedInputs.of(model_input(histories, self.model.config.max_length), self.device)
        return self.model.encode(inputs, self.implementation)[inputs.offsets[1:] - 1]
