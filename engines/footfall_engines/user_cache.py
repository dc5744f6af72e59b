"""UserCache: what spares a returning user's past from being encoded again, of one version, in bounded memory."""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from footfall_engines.storage import Storage


@dataclass
class CachedUser:
    """What is kept of one user: `sequence` of the storage is of events int32 [6, events] (HISTORY_COLUMNS)."""

    sequence: int
    events: NDArray[np.int32]


class UserCache:
    """The least recently used make room for others.

    An entry serves only a history that begins with the very events it was made of, and lives no longer than the
    engine of its version: neither a changed history nor a swap can meet a stale one.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._free = list(range(storage.num_pages))
        self._users: OrderedDict[bytes, CachedUser] = OrderedDict()

    def __len__(self) -> int:
        return len(self._users)

    def find(self, user: bytes, events: NDArray[np.int32]) -> CachedUser | None:
        """The user's entry, if `events` begin with its own and go on; it counts as used."""
        entry = self._users.get(user)
        if entry is None or not np.array_equal(entry.events, events[:, :-1][:, : entry.events.shape[1]]):
            return None
        self._users.move_to_end(user)
        return entry

    def reserve(self, user: bytes, rows: int, keep: Collection[bytes]) -> int | None:
        """The sequence with room for `rows` more events; None where only users to `keep` could give way."""
        entry = self._users.get(user)
        held = 0 if entry is None else entry.events.shape[1]
        pages = self.storage.pages(held + rows) - self.storage.pages(held)
        if not self._make_room(pages, keep):
            return None
        sequence = self._free.pop() if entry is None else entry.sequence
        self.storage.allocate(sequence, rows)
        return sequence

    def store(self, user: bytes, sequence: int, events: NDArray[np.int32]) -> None:
        """The user's entry, now that every layer holds what is kept of `events`."""
        self._users[user] = CachedUser(sequence, events.copy())
        self._users.move_to_end(user)

    def drop(self, user: bytes) -> None:
        """Forget the user, if known."""
        entry = self._users.pop(user, None)
        if entry is not None:
            self.release(entry.sequence)

    def release(self, sequence: int) -> None:
        """Give a reserved sequence and its pages back."""
        self.storage.release(sequence)
        self._free.append(sequence)

    @contextmanager
    def writing(self, sequences: Mapping[bytes, int]) -> Iterator[None]:
        """Where a batch fails half-way, its layers hold unlike lengths: its users are forgotten."""
        try:
            yield
        except BaseException:
            for user, sequence in sequences.items():
                self._users.pop(user, None)
                self.release(sequence)
            raise

    def _make_room(self, pages: int, keep: Collection[bytes]) -> bool:
        """Free so many pages; as every sequence in use has one, a new one then finds a number, too."""
        while self.storage.num_free < pages:
            oldest = next((user for user in self._users if user not in keep), None)
            if oldest is None:
                return False
            self.drop(oldest)
        return True
