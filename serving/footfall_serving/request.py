"""Request: what a client asked, checked; and its way to the indices an engine takes."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import (
    ACTION,
    CANDIDATE_ID,
    DEFAULT_EXCLUDE_SEEN,
    DEFAULT_TOP_K,
    EXCLUDE_SEEN,
    HISTORY_COLUMNS,
    ITEM_ID,
    MAX_CANDIDATES,
    MAX_EVENTS_READ,
    MAX_ID_BYTES,
    MAX_SEEN,
    NOW,
    PADDING_INDEX,
    TIMESTAMP,
    TOP_K,
    UNKNOWN_INDEX,
    UNKNOWN_TIME,
    USER_ID,
)
from footfall.errors import InputError
from footfall.history import bucket_width, clean, encode, model_input, pad
from footfall.times import implausible, why_implausible
from footfall_engines.version import Version

Tensors = Mapping[str, NDArray[Any] | None]
Indices = dict[str, NDArray[np.int32]]


@dataclass(frozen=True)
class Request:
    """One user's raw events, oldest first, at most the newest MAX_EVENTS_READ, and what is wanted of them.

    older_ids: the items of the events before them.
    """

    older_ids: list[bytes]
    item_ids: list[bytes]
    actions: list[bytes]
    times: NDArray[np.int64]
    now: int
    top_k: int
    candidates: list[bytes] | None
    exclude_seen: bool


def read_request(tensors: Tensors, max_top_k: int) -> Request:
    """Check the tensors of a request, each [1, n], None where left out; defaults are the contract's.

    Raises InputError with the sentence the client is to see.
    """
    item_ids = _row(tensors, ITEM_ID.name)
    if item_ids is None:
        raise InputError("item_id is missing")
    actions, times = _row(tensors, ACTION.name), _row(tensors, TIMESTAMP.name)
    for name, values in ((ACTION.name, actions), (TIMESTAMP.name, times)):
        if values is not None and len(values) != len(item_ids):
            raise InputError(f"{name} has {len(values)} entries and item_id {len(item_ids)}: they must match")
    candidates = _row(tensors, CANDIDATE_ID.name)
    exclude_seen = _row(tensors, EXCLUDE_SEEN.name)
    user = _row(tensors, USER_ID.name)
    if user is not None:
        _ids(user, USER_ID.name)
    ids = _ids(item_ids, ITEM_ID.name)
    return Request(
        ids[:-MAX_EVENTS_READ],
        ids[-MAX_EVENTS_READ:],
        [b""] * min(len(item_ids), MAX_EVENTS_READ)
        if actions is None
        else _ids(actions[-MAX_EVENTS_READ:], ACTION.name),
        _times(times, min(len(item_ids), MAX_EVENTS_READ)),
        _now(_row(tensors, NOW.name)),
        read_top_k(_row(tensors, TOP_K.name), max_top_k),
        None if candidates is None else _candidates(candidates),
        DEFAULT_EXCLUDE_SEEN if exclude_seen is None else bool(exclude_seen[0]),
    )


def read_top_k(top_k: NDArray[Any] | None, max_top_k: int) -> int:
    """The list's length; the default is cut to a small catalogue, a wish is not."""
    if top_k is None:
        return min(DEFAULT_TOP_K, max_top_k)
    wanted = int(np.ravel(top_k)[0])
    if not 1 <= wanted <= max_top_k:
        raise InputError(f"top_k is {wanted}, this version takes 1 to {max_top_k}")
    return wanted


def to_indices(request: Request, version: Version) -> tuple[Indices, int, int]:
    """contract.ENGINE_INPUTS without batch axis, and how many unknown items and actions were dropped.

    Cleaning, truncation and gaps are footfall.history's, the code that training runs.
    """
    encoded = encode(request.item_ids, request.actions, request.times, version.items, version.actions)
    cleaned = clean(encoded.histories, version.rules)
    inputs = model_input(cleaned, np.array([request.now], dtype=np.int64), version.max_length)
    seen = _seen(request, version) if request.exclude_seen else np.zeros(0, np.int32)
    candidates = np.zeros(0, np.int32)
    if request.candidates is not None:
        candidates = version.items.indices(request.candidates)
        candidates = np.where(candidates == PADDING_INDEX, UNKNOWN_INDEX, candidates).astype(np.int32)
        if not len(candidates):
            candidates = np.array([UNKNOWN_INDEX], dtype=np.int32)
    indices = {
        **{
            tensor.name: _never_empty(values)
            for tensor, values in zip(HISTORY_COLUMNS, inputs.columns, strict=True)
        },
        "history_length": np.array([len(inputs.item)], dtype=np.int32),
        "excluded_index": _never_empty(seen),
        "candidate_index": _never_empty(candidates),
    }
    return indices, encoded.unknown_items, encoded.unknown_actions


def _seen(request: Request, version: Version) -> NDArray[np.int32]:
    """Known items of all events, whatever their action and however old."""
    items = np.unique(version.items.indices([*request.older_ids, *request.item_ids]))
    seen: NDArray[np.int32] = items[items != PADDING_INDEX]
    if len(seen) > MAX_SEEN:
        raise InputError(
            f"item_id holds {len(seen)} items of the catalogue, at most {MAX_SEEN} can be kept out of an answer; "
            "with exclude_seen false any number is taken"
        )
    return seen


def padded(indices: Indices, max_length: int) -> Indices:
    """Every list padded to a power of two, as a plan that the server runs itself needs equal shapes to batch."""
    result = dict(indices)
    for name, values in indices.items():
        width = bucket_width(len(values))
        if name.startswith("history_") and name != "history_length":
            width = min(width, max_length)
        result[name] = pad(values, np.array([0, len(values)]), width)[0]
    return result


def _row(tensors: Tensors, name: str) -> NDArray[Any] | None:
    tensor = tensors.get(name)
    if tensor is None:
        return None
    if tensor.ndim != 2 or tensor.shape[0] != 1:
        raise InputError(f"{name} has shape {list(tensor.shape)}: a request is of one user, [1, n]")
    row: NDArray[Any] = tensor[0]
    return row


def _ids(values: NDArray[Any], name: str) -> list[bytes]:
    ids: list[bytes] = values.tolist()
    for place, id_ in enumerate(ids):
        if len(id_) > MAX_ID_BYTES:
            raise InputError(f"{name} number {place} has {len(id_)} bytes, at most {MAX_ID_BYTES} are taken")
        try:
            id_.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name} number {place} is not UTF-8: {error.reason} at byte {error.start}"
            ) from error
    return ids


def _candidates(values: NDArray[Any]) -> list[bytes]:
    if len(values) > MAX_CANDIDATES:
        raise InputError(f"candidate_id has {len(values)} entries, at most {MAX_CANDIDATES} are taken")
    return _ids(values, CANDIDATE_ID.name)


def _times(values: NDArray[Any] | None, count: int) -> NDArray[np.int64]:
    if values is None:
        return np.full(count, UNKNOWN_TIME, dtype=np.int64)
    times: NDArray[np.int64] = values[-MAX_EVENTS_READ:].astype(np.int64)
    _check_times(times, TIMESTAMP.name)
    return times


def _now(values: NDArray[Any] | None) -> int:
    """Epoch milliseconds; the clock of this machine where it is left out."""
    if values is None:
        return time.time_ns() // 1_000_000
    _check_times(values, NOW.name)
    return int(values[0])


def _check_times(times: NDArray[Any], name: str) -> None:
    bad = times[implausible(times) & (times != UNKNOWN_TIME)]
    if len(bad):
        raise InputError(
            f"{name} holds {bad[0]}, expected epoch milliseconds: {why_implausible(bad[0])}; an unknown time is "
            f"{UNKNOWN_TIME}"
        )


def _never_empty(values: NDArray[np.int32]) -> NDArray[np.int32]:
    return values if len(values) else np.array([PADDING_INDEX], dtype=np.int32)
