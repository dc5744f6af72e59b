"""Codec: requests to named tensors, tensors to answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import (
    ACTION,
    ACTION_NAME,
    CANDIDATE_ID,
    EXCLUDE_SEEN,
    HEADS,
    ITEM_ID,
    MODEL_VERSION,
    NOW,
    RECOMMENDED_ID,
    SCORE,
    TIMESTAMP,
    TOP_K,
    USER_ID,
    USER_VECTOR,
    Tensor,
)
from footfall_client import _checks
from footfall_client._exceptions import InvalidRequest
from footfall_client._types import Event, Recommendation, RecommendedItem

History = Sequence[Event | str]
Tensors = Sequence[tuple[Tensor, NDArray[Any]]]


@dataclass(frozen=True)
class ServedModel:
    """What the ensemble's configuration tells of the live version."""

    max_top_k: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "ServedModel":
        """From the configuration as a mapping, the same over gRPC and HTTP."""
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        return cls(int(parameters["max_top_k"]))


def encode(
    history: History,
    k: int | None,
    candidates: Sequence[str] | None,
    exclude_seen: bool,
    user: str | None,
    now: datetime | int | None,
) -> Tensors:
    """The request's tensors, each with the batch axis [1, ...]; what is None is left out. Raises InvalidRequest."""
    events = _events(history)
    times = [_checks.epoch_ms(f"time number {place}", event.time) for place, event in enumerate(events)]
    actions = ["" if event.action is None else event.action for event in events]
    tensors = [
        (ITEM_ID, _texts("item", [event.item for event in events])),
        (ACTION, _texts("action", actions)),
        (TIMESTAMP, np.array([times], dtype=np.int64).reshape(1, -1)),
        (EXCLUDE_SEEN, np.array([[_checks.flag("exclude_seen", exclude_seen)]])),
    ]
    if k is not None:
        tensors.append((TOP_K, np.array([[_checks.top_k(k)]], dtype=np.int32)))
    if candidates is not None:
        tensors.append((CANDIDATE_ID, _texts("candidate", _checks.as_list("candidates", candidates))))
    if now is not None:
        tensors.append((NOW, np.array([[_checks.epoch_ms("now", now)]], dtype=np.int64)))
    if user is not None:
        tensors.append((USER_ID, _texts("user", [user])))
    return tensors


def decode(answer: Any) -> Recommendation:
    """`answer` is tritonclient's InferResult."""
    ids, scores = answer.as_numpy(RECOMMENDED_ID.name)[0], answer.as_numpy(SCORE.name)[0]
    said = {tensor.name: answer.as_numpy(tensor.name) for tensor in HEADS.values()}
    return Recommendation(
        tuple(RecommendedItem(id_.decode(), float(score)) for id_, score in zip(ids, scores, strict=True)),
        {name: values[0] for name, values in said.items() if values is not None},
        tuple(action.decode() for action in answer.as_numpy(ACTION_NAME.name)[0]),
        answer.as_numpy(USER_VECTOR.name)[0],
        version_of(answer),
    )


def version_of(answer: Any) -> int:
    return int(answer.as_numpy(MODEL_VERSION.name)[0, 0])


def _events(history: History) -> list[Event]:
    events = [Event(one) if isinstance(one, str) else one for one in _checks.as_list("history", history)]
    for place, event in enumerate(events):
        if not isinstance(event, Event):
            raise InvalidRequest(
                f"history number {place} is {_checks.kind(event)}, expected an item id or an Event"
            )
    return events


def _texts(name: str, texts: Sequence[str]) -> NDArray[np.object_]:
    array = np.empty((1, len(texts)), dtype=np.object_)
    array[0, :] = [_checks.utf8(name, place, text) for place, text in enumerate(texts)]
    return array
