"""What goes in and what comes out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray


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
    """One answer, from exactly one version of the model. user_vector is float32 [width]."""

    items: tuple[RecommendedItem, ...]
    action_probability: Mapping[str, float]
    user_vector: NDArray[np.float32]
    model_version: int


@dataclass(frozen=True)
class ModelState:
    """A model of the server's repository: READY, UNAVAILABLE, ..."""

    name: str
    version: str
    state: str
