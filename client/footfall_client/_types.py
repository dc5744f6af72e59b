"""What goes in and what comes out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from footfall.contract import ACTION_PROBABILITY


@dataclass(frozen=True)
class Event:
    """One event of a shopper.

    `action` None: a view, or where the shop's log has no views the first action it has. `time`: a datetime, epoch
    milliseconds, or None where unknown.
    """

    item: str
    action: str | None = None
    time: datetime | int | None = None


@dataclass(frozen=True)
class RecommendedItem:
    id: str
    score: float


@dataclass(frozen=True)
class Recommendation:
    """One answer, from exactly one version of the model.

    user_vector: float32 [width]. predictions: what else the version says of the shopper, float32 [any], by the names
    of contract.HEADS' tensors. action_names: whose the entries of action_probability are.
    """

    items: tuple[RecommendedItem, ...]
    predictions: Mapping[str, NDArray[np.float32]]
    action_names: tuple[str, ...]
    user_vector: NDArray[np.float32]
    model_version: int

    @property
    def action_probability(self) -> dict[str, float]:
        """The probability that each action is the shopper's next; empty where the version does not tell."""
        probability = self.predictions.get(ACTION_PROBABILITY.name)
        return {} if probability is None else dict(zip(self.action_names, probability.tolist(), strict=True))


@dataclass(frozen=True)
class ModelState:
    """A model of the server's repository: READY, UNAVAILABLE, ..."""

    name: str
    version: str
    state: str
