"""KeptAnswers: an engine that does not compute again what it has answered before."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from footfall.contract import ANEW_USER, ITEM_INDEX, ITEM_SCORE
from footfall.history import ModelInput
from footfall_engines.batch import NOBODY, Batch, Scores
from footfall_engines.engine import Engine

KEY_BYTES = 16
ENTRY_BYTES = 900
"""What an answer takes beside its numbers, in CPython 3.11."""
LISTED = (ITEM_INDEX.name, ITEM_SCORE.name)
Row = dict[str, NDArray[np.float32]]
"""One user's row of each output, whatever its type as the float32 of the same bytes."""


class KeptAnswers:
    """Asks `engine` what it has not answered yet; holds at most `max_bytes`, and lets go first of what was asked for
    longest ago.

    An answer is kept by all that the engine sees of a request, so it is the one that would be computed again. What
    ANEW_USER asks is always computed, and so is a batch that does not say how long its lists are to be.
    """

    def __init__(self, engine: Engine, max_bytes: int) -> None:
        self._engine, self._max_bytes = engine, max_bytes
        self._secret = secrets.token_bytes(KEY_BYTES)
        self._kept: OrderedDict[bytes, Row] = OrderedDict()
        self._known_events = 0
        self.num_bytes = 0

    @property
    def cached_events(self) -> int:
        return self._engine.cached_events + self._known_events

    def score(self, batch: Batch) -> Scores:
        if batch.top_k is None:
            return self._engine.score(batch)
        keys = list(self._keys(batch))
        rows = [self._find(key, batch.top_k) for key in keys]
        missing = np.array([place for place, row in enumerate(rows) if row is None], dtype=np.int64)
        if len(missing):
            computed = self._engine.score(batch if len(missing) == len(rows) else batch.take(missing))
            for place, row in zip(missing.tolist(), _rows(computed), strict=True):
                rows[place] = row
                self._keep(keys[place], row)
            if len(missing) == len(rows):
                return computed
        lengths = np.diff(batch.history.offsets)
        self._known_events += int(lengths.sum() - lengths[missing].sum())
        return _scores([row for row in rows if row is not None], batch.top_k)

    def _keys(self, batch: Batch) -> Iterator[bytes | None]:
        """None for who is answered anew. Hashed with a secret: nobody can make a request of another's key."""
        history, lists = batch.history, (batch.excluded, batch.candidate)
        for place, user in enumerate(batch.users or (NOBODY,) * (len(history.offsets) - 1)):
            if user == ANEW_USER:
                yield None
                continue
            parts = list(_seen(history, *history.offsets[place : place + 2].tolist()))
            parts += [one.values[one.offsets[place] : one.offsets[place + 1]] for one in lists]
            digest = hashlib.blake2b(digest_size=KEY_BYTES, key=self._secret)
            for part in (np.array([len(part) for part in parts]), *parts):
                digest.update(part.tobytes())
            yield digest.digest()

    def _find(self, key: bytes | None, top_k: int) -> Row | None:
        """With a list of `top_k` at least."""
        row = None if key is None else self._kept.get(key)
        if key is None or row is None or len(row[LISTED[0]]) < top_k:
            return None
        self._kept.move_to_end(key)
        return row

    def _keep(self, key: bytes | None, row: Row) -> None:
        if key is None:
            return
        self._let_go(key)
        self._kept[key] = {name: values.copy() for name, values in row.items()}
        self.num_bytes += _size(row)
        while self.num_bytes > self._max_bytes:
            self._let_go(next(iter(self._kept)))

    def _let_go(self, key: bytes) -> None:
        row = self._kept.pop(key, None)
        if row is not None:
            self.num_bytes -= _size(row)


def _seen(history: ModelInput, start: int, stop: int) -> Iterator[NDArray[np.generic]]:
    """What a model sees of a history. Of the moment that it is asked at it sees the wait, and of the time to each
    event the number of bits (attention's buckets), so an answer holds until one of them is another.
    """
    for column in (history.item, history.action, history.gap, history.wait, history.time):
        yield column[start:stop]
    since = (
        history.next_time[stop - 1 : stop] - history.time[start:stop] if stop > start else history.time[:0]
    )
    yield np.frexp(since.astype(np.float64))[1].astype(np.int8)


def _rows(scores: Scores) -> Iterator[Row]:
    for values in zip(*scores.outputs.values(), strict=True):
        yield {name: row.view(np.float32) for name, row in zip(scores.outputs, values, strict=True)}


def _scores(rows: list[Row], top_k: int) -> Scores:
    outputs: dict[str, NDArray[np.generic]] = {
        name: np.stack([row[name][: top_k if name in LISTED else None] for row in rows]) for name in rows[0]
    }
    return Scores({**outputs, ITEM_INDEX.name: outputs[ITEM_INDEX.name].view(np.int32)})


def _size(row: Row) -> int:
    return ENTRY_BYTES + sum(values.nbytes for values in row.values())
