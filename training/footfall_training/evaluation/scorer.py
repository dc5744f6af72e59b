"""ModelScorer: a SequenceModel as evaluation and calibration see it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footfall.history import Histories, model_input, select, slices
from footfall_kernels.implementations import ImplementationName
from footfall_models.inputs import PackedInputs
from footfall_models.model import SequenceModel

BATCH_HISTORIES = 512


@dataclass(frozen=True)
class ModelScorer:
    """Each history is asked about at its `now`; events that the model does not know are not read, as in a server."""

    model: SequenceModel
    device: torch.device
    implementation: ImplementationName

    def scores(self, histories: Histories, now: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of every item, -inf where it is not listed: float32 [users, num_items + 1]."""
        with torch.inference_mode():
            scores = self.hidden(histories, now) @ self.model.item_table().T
            scores = torch.where(self._empty(histories), self.model.item_popularity, scores)
            scores.masked_fill_(~self.model.item_listed, -torch.inf)
        found: NDArray[np.float32] = scores.cpu().numpy()
        return found

    def action_probability(self, histories: Histories, now: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of each next action, calibrated: float64 [users, num_actions]."""
        with torch.inference_mode():
            head = self.model.head("action")
            probability = torch.where(
                self._empty(histories), head.prior, head.describe(self.hidden(histories, now))
            )
        said: NDArray[np.float64] = probability.double().cpu().numpy()
        return said

    def hidden(self, histories: Histories, now: NDArray[np.int64]) -> Tensor:
        """The state after each history's last event: float [users, width], on the model's device.

        Of a history without any it means nothing.
        """
        self.model.eval()
        histories = self._known(histories)
        offsets = histories.offsets
        parts = []
        with torch.inference_mode():
            for start in range(0, histories.num_users, BATCH_HISTORIES):
                end = min(start + BATCH_HISTORIES, histories.num_users)
                some = slices(histories, offsets[start:end], offsets[start + 1 : end + 1])
                parts.append(self._encode(some, now[start:end]))
        return torch.cat(parts)

    def _known(self, histories: Histories) -> Histories:
        config = self.model.config
        return select(
            histories, (histories.item <= config.num_items) & (histories.action <= config.num_actions)
        )

    def _empty(self, histories: Histories) -> Tensor:
        """bool [users, 1]"""
        return torch.from_numpy(self._known(histories).lengths == 0).to(self.device).unsqueeze(1)

    def _encode(self, histories: Histories, now: NDArray[np.int64]) -> Tensor:
        inputs = PackedInputs.of(model_input(histories, now, self.model.config.max_length), self.device)
        if not histories.num_events:
            return torch.zeros(histories.num_users, self.model.config.width, device=self.device)
        return self.model.states(inputs, self.implementation)
