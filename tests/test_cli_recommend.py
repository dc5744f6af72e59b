"""`footfall recommend` at the real server: which events its options make, and what it says of what it cannot send."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from footfall.errors import InputError
from footfall_cli.recommend import SERVED, _history, _warn
from footfall_client import Client, Event, Recommendation
from footfall_engines.repository import Repository
from footfall_serving.state import ServerState

FOOTFALL = str(Path(sys.executable).with_name("footfall"))


def ask(server: ServerState, *options: str | bytes) -> "subprocess.CompletedProcess[str]":
    command: list[Any] = [FOOTFALL, "recommend", "--url", server.grpc_url, "--json", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def answered(user_vector: list[float]) -> Recommendation:
    """By a model that knows view and cart."""
    return Recommendation((), {}, ("view", "cart"), np.array(user_vector, dtype=np.float32), 1)


@pytest.mark.parametrize("item", ["22423", "urn:isbn:123", "22423:cart", "22423:", ":cart", "a:view:cart"])
def test_an_item_is_an_id_whatever_colons_it_has(item: str) -> None:
    assert _history([item], [], []) == [Event(item)]
    assert _history([item], ["cart"], []) == [Event(item, "cart")]


def test_actions_and_times_are_those_of_the_items_in_their_places() -> None:
    moment = datetime(2025, 3, 11, 10, 39, 46, tzinfo=UTC)
    assert _history(["a", "b", "c"], ["cart", "", "view"], ["2025-03-11T11:39:46+01:00", "", "0"]) == [
        Event("a", "cart", moment),
        Event("b"),
        Event("c", "view", 0),
    ]


@pytest.mark.parametrize(
    ("actions", "times", "sentence"),
    [
        (["cart"], [], "--action is given 1 times and --item 2 times: they must match"),
        ([], ["0", "1", "2"], "--time is given 3 times and --item 2 times"),
        (
            [],
            ["0", "yesterday"],
            "--time is 'yesterday', expected epoch milliseconds or a time such as 2025-",
        ),
        ([], ["0", "2025-03-11T10:39:46"], "--time is '2025-03-11T10:39:46', which has no offset"),
    ],
)
def test_what_does_not_fit_the_items_is_refused_in_a_sentence(
    actions: list[str], times: list[str], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        _history(["a", "b"], actions, times)


def test_an_item_that_reads_like_item_and_action_is_taken_as_an_item_aloud(
    capsys: pytest.CaptureFixture[str],
) -> None:
    history = [Event(item) for item in ("22423:Add_To_Cart", "urn:isbn:123", "22423:", ":cart")]
    _warn(history, answered([1.0]))
    assert capsys.readouterr().err == (
        "'22423:Add_To_Cart' is taken as the id of an item; an action is given by --action Add_To_Cart\n"
    )


def test_an_event_that_the_server_drops_is_said(server: ServerState, tiny_repository: Path) -> None:
    known = next(iter(Repository(tiny_repository).version(1).items)).decode()
    dropped = "events with the action 'gaze' are dropped: the model knows "
    unread = "the model knows no event of this history"
    for event, said in (
        (("--item", known, "--action", "VIEW"), []),
        (("--item", known, "--action", "gaze"), [dropped, unread]),
        (("--item", "no such item"), [unread]),
        ((), []),
    ):
        run = ask(server, *event)
        assert run.returncode == 0, run.stderr
        lines = run.stderr.splitlines()
        assert len(lines) == len(said)
        assert all(line.startswith(words) for line, words in zip(lines, said, strict=True))


@pytest.mark.parametrize(("protocol", "port"), [("grpc", 8001), ("http", 8000)])
def test_without_an_url_each_protocol_asks_where_serve_listens(
    protocol: Literal["grpc", "http"], port: int
) -> None:
    assert SERVED[protocol] == f"127.0.0.1:{port}"


def test_the_events_named_are_the_events_sent(server: ServerState, tiny_repository: Path) -> None:
    ids = [id_.decode() for id_ in Repository(tiny_repository).version(1).items]
    run = ask(server, "--item", ids[0], "--action", "cart", "--item", ids[1], "--action", "")
    assert run.returncode == 0, run.stderr
    with Client(server.grpc_url) as client:
        answer = client.recommend([Event(ids[0], "cart"), ids[1]])
        other = client.recommend([ids[0], ids[1]])
    listed = [row["id"] for row in json.loads(run.stdout)["items"]]
    assert listed == [item.id for item in answer.items] != [item.id for item in other.items]


def test_now_is_sent_and_left_out_is_the_servers_clock(server: ServerState, tiny_repository: Path) -> None:
    ids = [id_.decode() for id_ in Repository(tiny_repository).version(1).items]
    options = ("--item", ids[0], "--time", "2025-03-11T10:39:46Z")
    run = ask(server, *options, "--now", "2025-03-11T10:49:46Z")
    assert run.returncode == 0, run.stderr
    history = [Event(ids[0], time=datetime(2025, 3, 11, 10, 39, 46, tzinfo=UTC))]
    with Client(server.grpc_url) as client:
        soon = client.recommend(history, now=datetime(2025, 3, 11, 10, 49, 46, tzinfo=UTC))
        late = client.recommend(history)
        assert client.recommend(history, now=datetime.now(UTC)).items == late.items
        scores = client.score(history, [late.items[0].id])
    assert json.loads(run.stdout)["user_vector"] == pytest.approx(soon.user_vector.tolist(), abs=1e-5)
    assert late.user_vector != pytest.approx(soon.user_vector, abs=1e-2)
    assert scores == {late.items[0].id: pytest.approx(late.items[0].score, abs=1e-4)}


def test_an_item_that_is_no_utf8_is_refused_in_a_sentence(server: ServerState) -> None:
    run = ask(server, "--item", b"\xff")
    assert run.returncode == 1
    assert run.stderr.startswith("footfall: the argument '\\udcff' is not in the system's encoding, utf-8; ")
    assert len(run.stderr.splitlines()) == 1
