"""The client against the real server, and against nobody."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from footfall_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    Event,
    FootfallClientError,
    InvalidRequest,
    Overloaded,
    Unauthorized,
    Unavailable,
)
from footfall_client._budget import RetryBudget
from footfall_client._calls import Attempts
from footfall_engines.repository import Repository
from footfall_engines.version import Version
from footfall_serving.ports import free_port
from footfall_serving.state import ServerState

PROTOCOLS: tuple[Literal["grpc", "http"], ...] = ("grpc", "http")


@pytest.fixture(scope="module")
def version(tiny_repository: Path) -> Version:
    return Repository(tiny_repository).version(1)


@pytest.fixture(scope="module")
def ids(version: Version) -> list[str]:
    return [id_.decode() for id_ in version.items]


def url(server: ServerState, protocol: str) -> str:
    return server.grpc_url if protocol == "grpc" else server.http_url


@pytest.fixture(params=PROTOCOLS)
def client(server: ServerState, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client(url(server, request.param), request.param, timeout=20) as opened:
        yield opened


def test_a_history_is_answered_as_its_version_recorded(client: Client, version: Version) -> None:
    for recorded in version.canary["requests"]:
        rows = zip(recorded["item_id"], recorded["action"], recorded["timestamp"], strict=True)
        answer = client.recommend([Event(*row) for row in rows], k=20, now=recorded["now"])
        assert [item.id for item in answer.items] == recorded["recommended_id"]
        assert [item.score for item in answer.items] == pytest.approx(recorded["score"], abs=1e-3)
        assert answer.model_version == 1
        assert answer.user_vector.shape == (version.manifest["width"],)
        assert list(answer.action_probability) == version.manifest["actions"]
        assert sum(answer.action_probability.values()) == pytest.approx(1, abs=1e-5)


def test_candidates_seen_items_and_k_are_minded(client: Client, ids: list[str]) -> None:
    assert len(client.recommend(ids[:3], k=7).items) == 7
    among = client.recommend(ids[:3], candidates=[ids[1], ids[10], ids[11], "nobody knows"])
    assert {item.id for item in among.items} == {ids[10], ids[11]}
    seen = client.recommend(ids[:3], candidates=[ids[1], ids[10]], exclude_seen=False)
    assert {item.id for item in seen.items} == {ids[1], ids[10]}
    assert client.recommend([], k=3).items


def test_times_may_be_datetimes_or_milliseconds(client: Client, ids: list[str]) -> None:
    moment = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    as_datetime = client.recommend([Event(ids[0], "view", moment), Event(ids[1], "cart", moment)])
    as_number = client.recommend([Event(ids[0], "view", 1735787045000), Event(ids[1], "cart", 1735787045000)])
    assert as_datetime.items == as_number.items
    with pytest.raises(InvalidRequest, match="has no time zone"):
        client.recommend([Event(ids[0], "view", datetime(2025, 1, 1))])


def test_every_candidate_is_scored_however_many_and_unknown_ones_are_none(
    client: Client, ids: list[str]
) -> None:
    asked = [*reversed(ids), "nobody knows"]
    assert len(asked) > 200
    scores = client.score(ids[:3], asked)
    assert list(scores) == asked
    assert scores["nobody knows"] is None
    assert all(isinstance(scores[id_], float) for id_ in ids)
    assert client.score(iter(ids[:3]), asked) == pytest.approx(scores, nan_ok=True)  # type: ignore[arg-type]
    for item in client.recommend(ids[:3], k=10).items:
        assert scores[item.id] == pytest.approx(item.score, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"history": ["a"], "k": 0}, "k is 0"),
        ({"history": ["a"], "k": 101}, "top_k is 101, this version takes 1 to 100"),
        ({"history": ["x" * 1_000_000]}, "has 1000000 bytes"),
    ],
)
def test_a_malformed_request_raises_the_servers_sentence(
    client: Client, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.recommend(**arguments)
    assert sentence in str(refused.value)
    assert "ensemble" not in str(refused.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_repository_is_listed_with_the_key_alone(
    server: ServerState, protocol: Literal["grpc", "http"]
) -> None:
    with Client(url(server, protocol), protocol, key=server.repository_key) as client:
        assert {model.name for model in client.models() if model.state == "READY"} == {
            "footfall",
            "recommender",
        }
    with Client(url(server, protocol), protocol) as client, pytest.raises(Unauthorized, match="another key"):
        client.models()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_asyncio_client_answers_as_the_blocking_one(
    server: ServerState, ids: list[str], protocol: Literal["grpc", "http"]
) -> None:
    async def ask() -> list[Any]:
        address = url(server, protocol)
        async with AsyncClient(address, protocol, timeout=20, key=server.repository_key) as client:
            assert await client.ready()
            assert {model.name for model in await client.models()} >= {"footfall", "recommender"}
            with pytest.raises(InvalidRequest, match="top_k is 101"):
                await client.recommend(ids[:2], k=101)
            many = [client.recommend(ids[: length + 1], k=5) for length in range(20)]
            return [await asyncio.gather(*many), await client.score(ids[:2], ids[:5])]

    answers, scores = asyncio.run(ask())
    with Client(url(server, protocol), protocol, timeout=20) as client:
        for length, answer in enumerate(answers):
            alone = client.recommend(ids[: length + 1], k=5).items
            assert [item.id for item in alone] == [item.id for item in answer.items]
            # Of a batch of another size the sums differ in the last digits.
            assert [item.score for item in alone] == pytest.approx(
                [item.score for item in answer.items], abs=1e-4
            )
        assert client.score(ids[:2], ids[:5]) == pytest.approx(scores)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_at_the_address_is_unavailable_after_the_retries(protocol: Literal["grpc", "http"]) -> None:
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    with Client(address, protocol, timeout=5, retries=1) as client:
        with pytest.raises(Unavailable, match=f"nobody answers at {address}"):
            client.recommend(["a"])
        assert not client.ready()

    async def ask() -> None:
        async with AsyncClient(address, protocol, timeout=5, retries=1) as client:
            with pytest.raises(Unavailable, match=f"nobody answers at {address}"):
                await client.recommend(["a"])

    asyncio.run(ask())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_never_answers_passes_the_deadline(protocol: Literal["grpc", "http"]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, protocol, timeout=0.5) as client, pytest.raises(DeadlineExceeded):
            client.recommend(["a"])

        async def ask() -> None:
            async with AsyncClient(address, protocol, timeout=0.5) as client:
                with pytest.raises(DeadlineExceeded):
                    await client.recommend(["a"])

        asyncio.run(ask())


def test_a_server_that_comes_up_meanwhile_is_reached_by_a_retry(server: ServerState) -> None:
    """A forwarder opens the port only after the first attempt."""
    port = free_port("127.0.0.1")

    def forward() -> None:
        time.sleep(0.15)
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(10)
            near, _ = listener.accept()
            with near, socket.create_connection(("127.0.0.1", server.http_port)) as far:
                far.sendall(near.recv(65536))
                near.sendall(far.recv(65536))

    thread = threading.Thread(target=forward)
    thread.start()
    with Client(f"127.0.0.1:{port}", "http", timeout=10, retries=5) as client:
        assert client.ready()
    thread.join()


def test_only_unavailability_is_retried_and_never_past_the_deadline() -> None:
    with pytest.raises(InvalidRequest):
        Attempts(5, 3, RetryBudget()).delay_after(InvalidRequest("bad"))
    attempts = Attempts(60, 3, RetryBudget())
    delays = [attempts.delay_after(Unavailable("gone")) for _ in range(3)]
    assert delays[0] < 0.06
    assert delays[2] > delays[0]
    with pytest.raises(Unavailable):
        attempts.delay_after(Unavailable("gone"))
    with pytest.raises(Unavailable):
        Attempts(0.01, 3, RetryBudget()).delay_after(Unavailable("gone"))


def test_refusals_for_overload_are_tried_again_until_they_outweigh_the_answers() -> None:
    budget, tried = RetryBudget(), 0
    with pytest.raises(Overloaded):
        for _ in range(1000):
            assert Attempts(60, 1, budget).delay_after(Overloaded("full")) > 0
            tried += 1
    assert tried == 128
    assert Attempts(60, 1, budget).delay_after(Unavailable("gone")) > 0
    for _ in range(30):
        budget.answered()
    assert Attempts(60, 1, budget).delay_after(Overloaded("full")) > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"url": "http://a:1"}, "without a scheme"),
        ({"url": "a:1", "protocol": "soap"}, "unknown protocol 'soap'"),
        ({"url": "a:1", "timeout": 0}, "timeout 0"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FootfallClientError, match=sentence):
        Client(**options)


def test_importing_the_client_loads_nothing_heavy() -> None:
    heavy = {"torch", "polars", "onnx", "onnxruntime", "gevent"}
    code = f"import sys, footfall_client; print(*sorted({heavy!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_the_command_line_asks_the_server(server: ServerState, ids: list[str]) -> None:
    program = str(Path(sys.executable).with_name("footfall"))
    command = [
        program,
        "recommend",
        "--url",
        server.grpc_url,
        "--item",
        ids[0],
        "--item",
        ids[1],
        "-k",
        "3",
    ]
    run = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    answer = json.loads(run.stdout)
    assert len(answer["items"]) == 3
    assert answer["model_version"] == 1
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer["items"][0]["id"] in run.stdout
    absent = [program, "recommend", "--url", f"127.0.0.1:{free_port('127.0.0.1')}", "--item", "a"]
    run = subprocess.run(absent, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("footfall: nobody answers at 127.0.0.1")
