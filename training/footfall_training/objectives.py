"""Objectives: what a model learns of windows of histories, found by name."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from footfall.errors import InputError, check_choice
from footfall.history import Histories, ModelInput, as_model_input, slices
from footfall_models.config import Appends, Positions
from footfall_models.encoders.encoder import Encoder, Sees
from footfall_training.options import ObjectiveName


@dataclass(frozen=True)
class Examples:
    """What a model reads of some windows, and what it is to say: the event `item` int32, `action` uint8 [scored].

    scored int64: the places, among the packed events of `inputs`, of the states that are to tell; None: all of them.
    """

    inputs: ModelInput
    item: NDArray[np.int32]
    action: NDArray[np.uint8]
    scored: NDArray[np.int64] | None = None


Tells = Literal["every event", "last event"]


class Objective(Protocol):
    """`tells`: which events of a window are targets, and so how windows are cut: apart, so that every event is told
    once, or one for each event that is told, with all of the past that a model reads.
    `encoders`: those that it can train, by what they see; another would read the answer, or too little.
    `appends`: what its models put behind a history when they are asked, and then tell; their config carries it.
    """

    tells: Tells
    encoders: tuple[Sees, ...]
    appends: Appends

    def examples(self, windows: Histories, random: np.random.Generator) -> Examples:
        """Of windows of at least two events each. `random` is the same whenever a run comes to this batch."""


class NextItem:
    """After each event, at the time of the next one, that one. So the state after the last event tells."""

    tells: Tells = "every event"
    encoders: tuple[Sees, ...] = ("past",)
    appends: Appends = "nothing"

    def examples(self, windows: Histories, random: np.random.Generator) -> Examples:
        first, end = windows.offsets[:-1], windows.offsets[1:]
        following = slices(windows, first + 1, end)
        inputs = as_model_input(slices(windows, first, end - 1), windows.time[end - 1])
        return Examples(inputs, following.item, following.action)


class Prefixes:
    """As a server is asked: what comes after a history, of every history that begins one of the log.

    Each target has a row of its own, and so its own dropout and positions counted back from it; and an encoder may
    see both sides of an event, since what is told lies behind all of them.
    """

    tells: Tells = "last event"
    encoders: tuple[Sees, ...] = ("past", "both sides")
    appends: Appends = "nothing"

    def examples(self, windows: Histories, random: np.random.Generator) -> Examples:
        last = windows.offsets[1:] - 1
        inputs = as_model_input(slices(windows, windows.offsets[:-1], last), windows.time[last])
        return Examples(inputs, windows.item[last], windows.action[last], inputs.offsets[1:] - 1)


NEXT_ITEM = NextItem()
OBJECTIVES: dict[ObjectiveName, Objective] = {"next_item": NEXT_ITEM, "prefixes": Prefixes()}


def find_objective(name: ObjectiveName, encoder: type[Encoder], positions: Positions = "first") -> Objective:
    """Raises InputError where there is none of that name, or it cannot train that encoder with those positions."""
    check_choice("objective", name, OBJECTIVES)
    objective = OBJECTIVES[name]
    if encoder.sees not in objective.encoders:
        raise InputError(
            f"objective {name} trains encoders that see {' or '.join(objective.encoders)};"
            f" {encoder.__name__} sees {encoder.sees}"
        )
    if positions == "last" and objective.tells == "every event":
        raise InputError(
            f"positions counted from the last would tell the states that objective {name} trains how many events"
            " follow, which a server never knows; train with --objective prefixes"
        )
    return objective
