"""The two-way map between ids and indices."""

from pathlib import Path

import pytest

from footfall.errors import InputError
from footfall.vocabulary import Vocabulary


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
