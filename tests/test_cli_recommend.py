"""`footfall recommend` at the real server: how an --item is read, and what it says of one it cannot send."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from footfall_cli.recommend import _event
from footfall_client import Client, Event
from footfall_engines.version import Version, version_folder
from footfall_serving.state import ServerState

FOOTFALL = str(Path(sys.executable).with_name("footfall"))
ACTIONS = ["view", "cart", "lease"]


def ask(server: ServerState, *items: str | bytes) -> "subprocess.CompletedProcess[str]":
    command: list[Any] = [FOOTFALL, "recommend", "--url", server.grpc_url, "--json"]
    for item in items:
        command += ["--item", item]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("22423", Event("22423")),
        ("22423:cart", Event("22423", "cart")),
        ("22423:Add_To_Cart", Event("22423", "Add_To_Cart")),
        ("22423:lease", Event("22423", "lease")),
        ("urn:isbn:123", Event("urn:isbn:123")),
        ("urn:isbn:123:cart", Event("urn:isbn:123", "cart")),
        ("22423:", Event("22423")),
        ("urn:view:", Event("urn:view")),
        (":cart", Event(":cart")),
    ],
)
def test_only_an_action_of_the_model_is_split_off_an_item(text: str, event: Event) -> None:
    assert _event(text, ACTIONS) == event


def test_a_colon_that_stays_with_the_item_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    _event("22423:crat", ACTIONS)
    said = capsys.readouterr().err
    assert said == "'22423:crat' is an item: 'crat' is no action of this model, which has view, cart, lease\n"


def test_the_events_named_are_the_events_sent(server: ServerState, tiny_repository: Path) -> None:
    ids = [id_.decode() for id_ in Version.open(version_folder(tiny_repository, 1)).items]
    run = ask(server, f"{ids[0]}:cart", ids[1], "urn:123")
    assert run.returncode == 0, run.stderr
    assert run.stderr.startswith("'urn:123' is an item")
    with Client(server.grpc_url) as client:
        answer = client.recommend([Event(ids[0], "cart"), ids[1], "urn:123"])
    assert [row["id"] for row in json.loads(run.stdout)["items"]] == [item.id for item in answer.items]


def test_an_item_that_is_no_utf8_is_refused_in_a_sentence(server: ServerState) -> None:
    run = ask(server, b"\xff")
    assert run.returncode == 1
    assert run.stderr == "footfall: item number 0 is '\\udcff', which is not UTF-8\n"
