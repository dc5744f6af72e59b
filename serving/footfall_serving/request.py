"""Request: what a client asked, checked; and its way to the indices an engine takes."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import (
    ACTION,
    CANDIDATE_ID,
    DEFAULT_EXCLUDE_SEEN,
    DEFAULT_TOP_K,
    EXCLUDE_SEEN,
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
from footfall.encoding import encode
from footfall.errors import InputError
from footfall.history import clean, model_input
from footfall.packed import offsets_of
from footfall.times import all_of_today, implausible, why_implausible
from footfall_engines.batch import NOBODY, Batch, IndexLists
from footfall_engines.version import Version

Tensors = Mapping[str, NDArray[Any] | None]


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
    user: bytes


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
        NOBODY if user is None else _ids(user, USER_ID.name)[0],
    )


def read_top_k(top_k: NDArray[Any] | None, max_top_k: int) -> int:
    """The list's length; the default is cut to a small catalogue, a wish is not."""
    if top_k is None:
        return min(DEFAULT_TOP_K, max_top_k)
    wanted = int(np.ravel(top_k)[0])
    if not 1 <= wanted <= max_top_k:
        raise InputError(f"top_k is {wanted}, this version takes 1 to {max_top_k}")
    return wanted


@dataclass(frozen=True)
class Indexed:
    """What an engine is asked of requests, and how many of their events were left out.

    item int32 [events]: of every event, PADDING_INDEX where it is unknown; action uint8: of those that were kept.
    """

    batch: Batch
    item: NDArray[np.int32]
    action: NDArray[np.uint8]
    unknown_items: int
    unknown_actions: int


def to_indices(requests: Sequence[Request], version: Version) -> Indexed:
    """All in one pass. Raises InputError where one of them has seen too much.

    Cleaning, truncation and gaps are footfall.history's, the code that training runs.
    """
    lengths = [len(request.item_ids) for request in requests]
    offsets = offsets_of(lengths)
    encoded = encode(
        list(chain.from_iterable(request.item_ids for request in requests)),
        list(chain.from_iterable(request.actions for request in requests)),
        np.concatenate([request.times for request in requests]),
        offsets,
        version.items,
        version.actions,
    )
    now = np.array([request.now for request in requests], dtype=np.int64)
    history = model_input(clean(encoded.histories, version.rules), now, version.max_length)
    batch = Batch(
        history,
        _seen(requests, encoded.item, lengths, version),
        _candidates_of(requests, version),
        tuple(request.user for request in requests),
    )
    unknown = int(encoded.unknown_items.sum()), int(encoded.unknown_actions.sum())
    return Indexed(batch, encoded.item, encoded.histories.action, *unknown)


def _seen(
    requests: Sequence[Request], item: NDArray[np.int32], lengths: Sequence[int], version: Version
) -> IndexLists:
    """Known items of all events, whatever their action and however old, where they are to be kept out of the answer.

    item: of the events that are not older, all users in one; lengths: how many each has.
    """
    user = np.arange(len(requests)).repeat(lengths)
    asking = [request.exclude_seen for request in requests]
    if not all(asking):
        wanted = np.array(asking).repeat(lengths)
        item, user = item[wanted], user[wanted]
    for place, request in enumerate(requests):
        if request.older_ids and request.exclude_seen:
            older = version.items.indices(request.older_ids)
            item, user = np.concatenate([item, older]), np.append(user, np.full(len(older), place))
    num_items = len(version.items) + 1
    seen = user * num_items + item
    seen.sort()
    if len(seen):  # as np.unique, which takes twice as long of few
        seen = seen[np.append(True, seen[1:] != seen[:-1])]
    user, item = np.divmod(seen, num_items)
    known = item != PADDING_INDEX
    counts = np.bincount(user[known], minlength=len(requests))
    if (most := int(counts.max())) > MAX_SEEN:
        raise InputError(
            f"item_id holds {most} items of the catalogue, at most {MAX_SEEN} can be kept out of an answer; "
            "with exclude_seen false any number is taken"
        )
    return IndexLists(item[known].astype(np.int32), offsets_of(counts))


def _candidates_of(requests: Sequence[Request], version: Version) -> IndexLists:
    if all(request.candidates is None for request in requests):
        return IndexLists(np.zeros(0, np.int32), np.zeros(len(requests) + 1, np.int64))
    return IndexLists.of([_candidate_index(request, version) for request in requests])


def _candidate_index(request: Request, version: Version) -> NDArray[np.int32]:
    """One that nobody knows stays a restriction; none at all too, where some were asked for."""
    if request.candidates is None:
        return np.zeros(0, np.int32)
    known = version.items.indices(request.candidates)
    index: NDArray[np.int32] = np.where(known == PADDING_INDEX, UNKNOWN_INDEX, known)
    return index if len(index) else np.array([UNKNOWN_INDEX], dtype=np.int32)


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
    if max(map(len, ids), default=0) <= MAX_ID_BYTES:
        with contextlib.suppress(UnicodeDecodeError):
            b"\n".join(ids).decode()  # only if each is UTF-8
            return ids
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
    if all_of_today(times):
        return
    bad = times[implausible(times) & (times != UNKNOWN_TIME)]
    if len(bad):
        raise InputError(
            f"{name} holds {bad[0]}, expected epoch milliseconds: {why_implausible(bad[0])}; an unknown time is "
            f"{UNKNOWN_TIME}"
        )
