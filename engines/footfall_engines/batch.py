"""Batch and Scores: what an engine is asked, and what it answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import (
    CANDIDATE_INDEX,
    EXCLUDED_INDEX,
    HISTORY_COLUMNS,
    HISTORY_LENGTH,
    ITEM_INDEX,
    ITEM_SCORE,
    NUM_GAPS,
    PADDING_INDEX,
    USER_VECTOR,
    engine_outputs,
)
from footfall.errors import InputError
from footfall.history import ModelInput, bucket_width, longest, pad, pad_all
from footfall.packed import offsets_of, ranges
from footfall_engines.version import Version

NOBODY = b""
"""The user of a request that names none."""
_INDEXED = ("item", "action", "gap", "wait")
"""The first of contract.HISTORY_COLUMNS, which hold indices."""
Row = dict[str, NDArray[np.int32]]
"""One user's contract.ENGINE_INPUTS without batch axis."""


@dataclass(frozen=True)
class IndexLists:
    """One list of item indices a user, packed: values int32 [entries], offsets int64 [users + 1]."""

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, lists: list[NDArray[np.int32]]) -> "IndexLists":
        values = np.concatenate(lists) if lists else np.zeros(0, np.int32)
        return cls(values, offsets_of([len(values) for values in lists]))

    def take(self, users: NDArray[np.int64]) -> "IndexLists":
        """The lists of these users."""
        places, offsets = ranges(self.offsets[users], self.offsets[users + 1])
        return IndexLists(self.values[places], offsets)

    def padded(self, width_of: Callable[[int], int] = bucket_width) -> NDArray[np.int32]:
        """int32 [users, the width of the longest]."""
        return pad(self.values, self.offsets, width_of(longest(self.offsets)))


@dataclass(frozen=True)
class Batch:
    """What to rank for: packed histories, and each user's excluded items and candidates (none: the catalogue).

    users: who each is, NOBODY where that is not known; an engine may keep what it computed of a known one.
    top_k: how many items the longest list asked for has; an engine may list more. None: the version's most.
    """

    history: ModelInput
    excluded: IndexLists
    candidate: IndexLists
    users: tuple[bytes, ...] = ()
    top_k: int | None = None

    def take(self, users: NDArray[np.int64]) -> "Batch":
        """That of these users."""
        events, offsets = ranges(self.history.offsets[users], self.history.offsets[users + 1])
        return Batch(
            ModelInput.of((values[events] for values in self.history.columns), offsets),
            self.excluded.take(users),
            self.candidate.take(users),
            tuple(self.users[user] for user in users.tolist()) if self.users else (),
            self.top_k,
        )


@dataclass(frozen=True)
class Scores:
    """contract.engine_outputs by name, [users, ...] each: the list, what the heads say, the user vector.

    The list is best first, its score -inf and its index 0 past the last.
    """

    outputs: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, heads: Sequence[str], outputs: Iterable[NDArray[Any]]) -> "Scores":
        """`outputs` in the order of contract.engine_outputs."""
        return cls(dict(zip([tensor.name for tensor in engine_outputs(heads)], outputs, strict=True)))

    @property
    def item_index(self) -> NDArray[np.int32]:
        return self.outputs[ITEM_INDEX.name]

    @property
    def item_score(self) -> NDArray[np.float32]:
        return self.outputs[ITEM_SCORE.name]

    @property
    def user_vector(self) -> NDArray[np.float32]:
        return self.outputs[USER_VECTOR.name]


def padded_inputs(
    batch: Batch, max_length: int, width_of: Callable[[int], int] = bucket_width
) -> dict[str, NDArray[np.int32]]:
    """The batch as contract.ENGINE_INPUTS: every list padded to the width of the longest, histories to at most
    max_length.
    """
    history = batch.history
    lengths = history.offsets[1:] - history.offsets[:-1]
    width = min(width_of(longest(history.offsets)), max_length)
    columns = pad_all(history.columns, history.offsets, width)
    return {
        **{tensor.name: values for tensor, values in zip(HISTORY_COLUMNS, columns, strict=True)},
        "history_length": lengths.astype(np.int32)[:, None],
        "excluded_index": batch.excluded.padded(width_of),
        "candidate_index": batch.candidate.padded(width_of),
    }


def split(batch: Batch) -> list[Row]:
    """Each user's contract.ENGINE_INPUTS without batch axis, as they go from step to step."""
    history = batch.history
    columns = [np.split(values, history.offsets[1:-1]) for values in history.columns]
    lists = [np.split(one.values, one.offsets[1:-1]) for one in (batch.excluded, batch.candidate)]
    names = [tensor.name for tensor in (*HISTORY_COLUMNS, EXCLUDED_INDEX, CANDIDATE_INDEX)]
    rows = [
        {name: _never_empty(part) for name, part in zip(names, parts, strict=True)}
        for parts in zip(*columns, *lists, strict=True)
    ]
    for row, length in zip(rows, np.diff(history.offsets).astype(np.int32), strict=True):
        row[HISTORY_LENGTH.name] = length[None]
    return rows


def padded(row: Row, max_length: int) -> Row:
    """Every list padded to a power of two, as a plan that the server runs itself needs equal shapes to batch."""
    result = dict(row)
    for name, values in row.items():
        width = bucket_width(len(values))
        if name.startswith("history_") and name != HISTORY_LENGTH.name:
            width = min(width, max_length)
        result[name] = pad(values, np.array([0, len(values)]), width)[0]
    return result


def join(rows: Sequence[Row], users: Iterable[bytes], version: Version) -> Batch:
    """What `split` gave. Raises InputError where a row is not of that kind, whoever made it."""
    history = join_histories(rows)
    check_history(history, version)
    excluded, candidate = (
        IndexLists.of([row[tensor.name][row[tensor.name] != PADDING_INDEX] for row in rows])
        for tensor in (EXCLUDED_INDEX, CANDIDATE_INDEX)
    )
    return Batch(history, excluded, candidate, tuple(users))


def join_histories(rows: Sequence[Row]) -> ModelInput:
    """Each user's history tensors [n] and history_length [1] -> packed, without what pads them.

    Raises InputError where a row tells of more or fewer events than it holds, as it would shift those of the next.
    """
    lengths = [_length(row) for row in rows]
    joined = (
        np.concatenate([row[tensor.name][:length] for row, length in zip(rows, lengths, strict=True)])
        for tensor in HISTORY_COLUMNS
    )
    return ModelInput.of(joined, offsets_of(lengths))


def _length(row: Row) -> int:
    length = int(row[HISTORY_LENGTH.name][0])
    held = {len(row[tensor.name]) for tensor in HISTORY_COLUMNS}
    if len(held) > 1 or not 0 <= length <= min(held):
        raise InputError(
            f"{HISTORY_LENGTH.name} is {length}, the history's columns hold {sorted(held)} events"
        )
    return length


def check_history(history: ModelInput, version: Version) -> None:
    """Raises InputError where an index means nothing to the version, or a user has more events than it reads."""
    if (most := longest(history.offsets)) > version.max_length:
        raise InputError(f"a history has {most} events, this version reads {version.max_length}")
    largest = largest_indices(len(version.items), len(version.actions))
    for name, values, most in zip(_INDEXED, history.columns, largest, strict=False):
        # As uint32 a negative one is larger than all.
        if len(values) and values.view(np.uint32).max() > most:
            wrong = values[values.view(np.uint32) > most][0]
            raise InputError(f"history_{name} holds {wrong}, this version knows 0 to {most}")


def known_history(history: ModelInput, largest: Sequence[int]) -> ModelInput:
    """With PADDING_INDEX for each index that is past `largest`, in the order of largest_indices, or negative.

    In packed columns this takes 8 us, in the graph 20 operators of some microsecond each.
    """
    columns = [
        np.where(values.view(np.uint32) <= most, values, PADDING_INDEX).astype(np.int32)
        if len(values) and values.view(np.uint32).max() > most
        else values
        for values, most in zip(history.columns, largest, strict=False)
    ]
    return ModelInput.of((*columns, *history.columns[len(columns) :]), history.offsets)


def largest_indices(num_items: int, num_actions: int) -> tuple[int, ...]:
    """That mean something, of the columns of a history that hold indices."""
    return num_items, num_actions, NUM_GAPS - 1, NUM_GAPS - 1


def _never_empty(values: NDArray[np.int32]) -> NDArray[np.int32]:
    return values if len(values) else np.array([PADDING_INDEX], dtype=np.int32)
