"""What a caller may get wrong, each a sentence before anything is sent: no server runs at the address."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from footfall.contract import UNKNOWN_TIME
from footfall_client import Client, Event, FootfallClientError, InvalidRequest, Unavailable
from footfall_client._codec import encode


@pytest.fixture
def client() -> Iterator[Client]:
    with Client("127.0.0.1:1", retries=0, timeout=2) as opened:
        yield opened


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"history": "I000038"}, "history is a str, expected a list"),
        ({"history": b"I000038"}, "history is a bytes, expected a list"),
        ({"history": None}, "history is a NoneType, expected a list"),
        ({"history": Event("a")}, "history is an Event, expected a list"),
        ({"history": {"item": "a"}}, "history is a dict, expected a list"),
        ({"history": ["a", 7]}, "history number 1 is an int, expected an item id or an Event"),
        ({"history": [b"a"]}, "history number 0 is a bytes, expected an item id or an Event"),
        ({"history": [Event(7)]}, "item number 0 is an int, expected a str"),  # type: ignore[arg-type]
        ({"history": ["\udcff"]}, r"item number 0 is '\\udcff', which is not UTF-8"),
        ({"history": [Event("a", "\udcff")]}, r"action number 0 is '\\udcff', which is not UTF-8"),
        ({"history": [Event("a", 3)]}, "action number 0 is an int, expected a str"),  # type: ignore[arg-type]
        ({"history": [Event("a", time=2**70)]}, f"time number 0 is {2**70}, no epoch milliseconds"),
        ({"history": [Event("a", time=1.5)]}, "time number 0 is a float"),  # type: ignore[arg-type]
        ({"history": ["a"], "k": 2**40}, f"k is {2**40}, it must be at least 1 and at most 2147483647"),
        ({"history": ["a"], "k": -1}, "k is -1, it must be at least 1"),
        ({"history": ["a"], "k": 2.5}, "k is 2.5, expected a whole number"),
        ({"history": ["a"], "k": True}, "k is True, expected a whole number"),
        ({"history": ["a"], "candidates": "ab"}, "candidates is a str, expected a list"),
        ({"history": ["a"], "candidates": [1]}, "candidate number 0 is an int, expected a str"),
        ({"history": ["a"], "candidates": ["\udcff"]}, r"candidate number 0 is '\\udcff'"),
        ({"history": ["a"], "exclude_seen": "no"}, "exclude_seen is 'no', expected True or False"),
    ],
)
def test_a_request_that_cannot_be_sent_is_refused_in_a_sentence(
    client: Client, request_: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        client.recommend(**request_)


@pytest.mark.parametrize(
    ("candidates", "sentence"),
    [("ab", "candidates is a str, expected a list"), ([["a"]], "candidates number 0 is a list")],
)
def test_candidates_to_score_are_checked_too(client: Client, candidates: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        client.score(["a"], candidates)


def test_what_can_be_sent_goes_to_the_server(client: Client) -> None:
    for history in (["a"], ("a",), iter(["a"]), np.array(["a", "b"]), [Event("a", time=np.int64(5))]):  # type: ignore[arg-type]
        with pytest.raises(Unavailable):
            client.recommend(history, k=np.int32(5))  # type: ignore[arg-type]


def test_numpy_values_and_datetimes_are_sent_as_they_are() -> None:
    moment = datetime(2025, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    history = [Event("a", time=moment), Event("b", time=np.int64(7)), Event("c", time=0), Event("d")]  # type: ignore[arg-type]
    tensors = encode(history, 3, np.array(["x"]), False, "u", moment)  # type: ignore[arg-type]
    sent = {tensor.name: values for tensor, values in tensors}
    assert sent["now"].tolist() == [[1735787045678]]
    assert sent["timestamp"].tolist() == [[1735787045678, 7, 0, UNKNOWN_TIME]]
    assert sent["item_id"].tolist() == [[b"a", b"b", b"c", b"d"]]
    assert sent["candidate_id"].tolist() == [[b"x"]]
    assert sent["exclude_seen"].tolist() == [[False]]


@pytest.mark.parametrize(
    "url", ["localhost", "localhost:", "localhost:grpc", "localhost:65536", "a b:1", "\udcff:1", ""]
)
def test_an_address_that_is_not_host_and_port_is_refused(url: str) -> None:
    for protocol in ("grpc", "http"):
        with pytest.raises(FootfallClientError, match="must be host:port"):
            Client(url, protocol)
    with pytest.raises(InvalidRequest, match="timeout nan"):
        Client("localhost:1", timeout=float("nan"))
