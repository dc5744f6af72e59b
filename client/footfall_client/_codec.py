"""Codec: requests to named tensors, tensors to answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import (
    ACTION,
    ACTION_PROBABILITY,
    CANDIDATE_ID,
    EXCLUDE_SEEN,
    ITEM_ID,
    MODEL_VERSION,
    RECOMMENDED_ID,
    SCORE,
    TIMESTAMP,
    TOP_K,
    UNKNOWN_TIME,
    USER_VECTOR,
    Tensor,
)
from footfall_client._exceptions import InvalidRequest
from footfall_client._types import Event, Recommendation, RecommendedItem

History = Sequence[Event | str]
Tensors = Sequence[tuple[Tensor, NDArray[Any]]]


@dataclass(frozen=True)
class ServedModel:
    """What the ensemble's configuration tells of the live version."""

    version: int
    actions: tuple[str, ...]
    max_top_k: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "ServedModel":
        """From the configuration as a mapping, the same over gRPC and HTTP."""
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        actions = tuple(json.loads(parameters["actions"]))
        return cls(int(parameters["version"]), actions, int(parameters["max_top_k"]))


def encode(history: History, k: int, candidates: Sequence[str] | None, exclude_seen: bool) -> Tensors:
    """The request's tensors, each with the batch axis [1, ...]. Raises InvalidRequest."""
    if k < 1:
        raise InvalidRequest(f"k is {k}, it must be at least 1")
    events = [Event(event) if isinstance(event, str) else event for event in history]
    tensors = [
        (ITEM_ID, _texts([event.item for event in events])),
        (ACTION, _texts([event.action or "" for event in events])),
        (TIMESTAMP, np.array([[_epoch_ms(event) for event in events]], dtype=np.int64).reshape(1, -1)),
        (TOP_K, np.array([[k]], dtype=np.int32)),
        (EXCLUDE_SEEN, np.array([[exclude_seen]])),
    ]
    if candidates is not None:
        tensors.append((CANDIDATE_ID, _texts(candidates)))
    return tensors


def decode(answer: Any, actions: Sequence[str]) -> Recommendation:
    """`answer` is tritonclient's InferResult; `actions` name its probabilities in order."""
    ids, scores = answer.as_numpy(RECOMMENDED_ID.name)[0], answer.as_numpy(SCORE.name)[0]
    probability = answer.as_numpy(ACTION_PROBABILITY.name)[0]
    return Recommendation(
        tuple(RecommendedItem(id_.decode(), float(score)) for id_, score in zip(ids, scores, strict=True)),
        {action: float(share) for action, share in zip(actions, probability, strict=True)},
        answer.as_numpy(USER_VECTOR.name)[0],
        version_of(answer),
    )


def version_of(answer: Any) -> int:
    return int(answer.as_numpy(MODEL_VERSION.name)[0, 0])


def _texts(texts: Sequence[str]) -> NDArray[np.object_]:
    array = np.empty((1, len(texts)), dtype=np.object_)
    array[0, :] = [text.encode() for text in texts]
    return array


def _epoch_ms(event: Event) -> int:
    if event.time is None:
        return UNKNOWN_TIME
    if isinstance(event.time, datetime):
        if event.time.tzinfo is None:
            raise InvalidRequest(
                f"the time {event.time} has no time zone; use e.g. datetime.now(timezone.utc)"
            )
        return round(event.time.timestamp() * 1000)
    return event.time
