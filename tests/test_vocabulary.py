"""The two-way map between ids and indices."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from footfall.errors import InputError
from footfall.lookup import Lookup
from footfall.vocabulary import Vocabulary

some_ids = st.lists(st.one_of(st.binary(max_size=4), st.text(max_size=9).map(str.encode)), unique=True)


def test_ids_and_indices_are_inverse_and_unknown_ids_are_padding(tmp_path: Path) -> None:
    Vocabulary.from_ids(["a", "", "ümlaut", b"\x00\xff"]).save(tmp_path)
    vocabulary = Vocabulary.load(tmp_path)
    assert vocabulary.ids([1, 2, 3, 4]) == [b"a", b"", "ümlaut".encode(), b"\x00\xff"]
    assert vocabulary.indices(["ümlaut".encode(), b"zebra", b"a"]).tolist() == [3, 0, 1]


@pytest.mark.parametrize("index", [0, 3, -1])
def test_an_index_outside_the_vocabulary_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match=str(index)):
        Vocabulary.from_ids(["a", "b"]).id(index)


def test_a_repeated_id_is_refused() -> None:
    with pytest.raises(InputError, match="more than once"):
        Vocabulary.from_ids(["a", "b", "a"])


def test_prefix_means_every_index_keeps_its_meaning() -> None:
    old = Vocabulary.from_ids(["a", "bc"])
    assert old.is_prefix_of(Vocabulary.from_ids(["a", "bc", "d"]))
    assert not old.is_prefix_of(Vocabulary.from_ids(["ab", "c", "d"]))
    assert not old.is_prefix_of(Vocabulary.from_ids(["a"]))


def test_the_fingerprint_tells_ids_cut_at_other_places_apart() -> None:
    assert Vocabulary.from_ids(["ab", "c"]).fingerprint() != Vocabulary.from_ids(["a", "bc"]).fingerprint()


@given(some_ids, some_ids)
@settings(deadline=None)
def test_every_id_is_found_and_no_other(known: list[bytes], asked: list[bytes]) -> None:
    expected = {id_: index for index, id_ in enumerate(known, start=1)}
    vocabulary = Vocabulary.from_ids(known)
    for ids in (asked, [*asked, *known, *asked]):
        assert vocabulary.indices(ids).tolist() == [expected.get(id_, 0) for id_ in ids]


def test_ids_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_length(values: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
        return (np.diff(offsets) // 2).astype(np.uint64)

    monkeypatch.setattr("footfall.lookup.hashes_of", by_length)
    vocabulary = Vocabulary.from_ids(["aa", "bbb", "c", "cc", "", "zzzz"])
    assert vocabulary.indices([b"bbb", b"cc", b"aa", b"", b"dd", b"x", b"c", b"zzzzz"]).tolist() == [
        *(2, 4, 1, 5, 0, 0, 3, 0)
    ]


def test_more_ids_than_are_remembered_are_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footfall.vocabulary.KEPT", 3)
    vocabulary = Vocabulary.from_ids([str(number) for number in range(1, 10)])
    for asked in ([1, 2], [1, 99, 3], [4, 5, 6, 7, 1], [1, 2, 99]):
        expected = [number if number < 99 else 0 for number in asked]
        assert vocabulary.indices([str(number).encode() for number in asked]).tolist() == expected


def test_the_lookup_of_a_large_vocabulary_is_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footfall.lookup.IDS_AT_ONCE", 3)
    vocabulary = Vocabulary.from_ids([f"id-{number}" for number in range(10)])
    assert vocabulary.indices([b"id-0", b"id-9", b"id-4", b"id-"]).tolist() == [1, 10, 5, 0]


def test_a_saved_vocabulary_is_mapped_and_copied_by_nobody(tmp_path: Path) -> None:
    Vocabulary.from_ids(["a", "b"]).save(tmp_path)
    vocabulary = Vocabulary.load(tmp_path)
    assert vocabulary.indices([b"b"]).tolist() == [2]
    lookup = vocabulary._lookup
    arrays = (vocabulary._values, vocabulary._offsets, lookup._hashes, lookup._index)
    assert all(isinstance(array, np.memmap) for array in arrays)


def test_a_vocabulary_that_was_saved_without_its_lookup_gets_one(tmp_path: Path) -> None:
    Vocabulary.from_ids(["a", "b"]).save(tmp_path)
    for name in ("hashes.npy", "index.npy"):
        (tmp_path / name).unlink()
    assert Vocabulary.load(tmp_path).indices([b"b", b"c"]).tolist() == [2, 0]


def test_an_empty_vocabulary_knows_no_id() -> None:
    assert Lookup.of(np.zeros(0, np.uint8), np.zeros(1, np.int64)).find([b"a", b""]).tolist() == [0, 0]
