"""More requests than the server can answer: who is refused, and who has it answered after all."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import copied
from tritonclient.utils import InferenceServerException

from footfall.contract import OVERLOADED
from footfall_client import AsyncClient, Client, Overloaded, Recommendation
from footfall_client._calls import Attempts, Calls
from footfall_client._settings import Protocol
from footfall_serving import supervisor
from footfall_serving.options import ServeOptions
from footfall_serving.server import running_server
from footfall_serving.state import ServerState, read_state

BOUND = 2
CROWD = 12
CLIENTS, CALLS = 64, 10


def url(server: ServerState, protocol: Protocol) -> str:
    return server.grpc_url if protocol == "grpc" else server.http_url


@dataclass(frozen=True)
class Held:
    """A server whose last step stands still while `hold` is there."""

    server: ServerState
    hold: Path


@pytest.fixture
def held(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Held]:
    """It takes BOUND inferences at once, or as many as the test says."""
    most = getattr(request, "param", BOUND)
    monkeypatch.setattr(
        supervisor, "PATIENCE_S", float("inf")
    )  # it would rightly be taken for one that hangs
    repository, hold = copied(tiny_repository, tmp_path / "repository"), tmp_path / "hold"
    adaptor = repository / "recommender" / "1" / "model.py"
    adaptor.write_text(
        adaptor.read_text()
        + "import pathlib, time\n\n\nclass Held(TritonPythonModel):\n    def execute(self, requests):\n"
        f"        while pathlib.Path({str(hold)!r}).exists():\n            time.sleep(0.01)\n"
        "        return super().execute(requests)\n\n\nTritonPythonModel = Held\n"
    )
    with running_server(repository, ServeOptions("127.0.0.1", 0, 0, 0, max_inferences=most)) as server:
        hold.touch()
        yield Held(server, hold)
        hold.unlink(missing_ok=True)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_who_comes_too_much_is_told_at_once_and_who_tries_again_is_answered(
    held: Held, ids: list[str], protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = url(held.server, protocol)
    patient: dict[str, Any] = {"protocol": protocol, "timeout": 100, "retries": 10**6}
    paused = threading.Event()

    def pauses(attempts: Attempts, error: Any) -> float:
        if attempts.retries:
            paused.set()
        return delay_after(attempts, error)

    delay_after = Attempts.delay_after
    monkeypatch.setattr(Attempts, "delay_after", pauses)

    async def ask() -> None:
        async with (
            AsyncClient(address, protocol, timeout=100, retries=0) as client,
            AsyncClient(address, **patient) as patient_client,
        ):
            crowd = {asyncio.create_task(client.recommend(ids[:3])) for _ in range(CROWD)}
            waiting = set(crowd)
            while len(waiting) > BOUND:  # nothing is answered yet, so whoever is done was refused
                refused, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                assert {type(task.exception()) for task in refused} == {Overloaded}
                assert {str(task.exception()) for task in refused} == {f"{address}: {OVERLOADED}"}
            await asyncio.to_thread(blocking_refused, held.server, ids)
            later = [
                asyncio.create_task(patient_client.recommend(ids[:3])),
                asyncio.create_task(asyncio.to_thread(blocking_answer, address, patient, ids)),
            ]
            assert await asyncio.to_thread(paused.wait, 100)
            held.hold.unlink()
            answers = [await task for task in (*waiting, *later)]
        assert [type(answer) for answer in answers] == [Recommendation] * (BOUND + 2)

    asyncio.run(ask())


def blocking_refused(server: ServerState, ids: list[str]) -> None:
    """Over either protocol, as what is under way counts for both."""
    protocols: tuple[Protocol, ...] = ("grpc", "http")
    for protocol in protocols:
        with Client(url(server, protocol), protocol, timeout=100, retries=0) as client:
            with pytest.raises(Overloaded, match=OVERLOADED):
                client.recommend(ids[:3])
            assert client.ready()


def blocking_answer(address: str, options: dict[str, Any], ids: list[str]) -> Recommendation:
    with Client(address, **options) as client:
        return client.recommend(ids[:3])


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_of_64_clients_who_wait_for_their_answers_none_is_refused(
    server: ServerState, ids: list[str], protocol: Protocol
) -> None:
    async def ask() -> None:
        async with AsyncClient(url(server, protocol), protocol, timeout=100, retries=0) as client:

            async def one() -> None:
                for _ in range(CALLS):
                    assert (await client.recommend(ids[:3])).items

            await asyncio.gather(*(one() for _ in range(CLIENTS)))

    asyncio.run(ask())


@pytest.mark.soak  # it fails 1 time in 5 (docs/faults.md, Still open)
def test_callers_who_leave_an_overloaded_server_do_not_end_it(
    tiny_repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    """Refused by the server itself (a max_queue_size of 2) and not by the door, such callers ended it in a second."""
    repository = copied(tiny_repository, tmp_path / "repository")
    options = ServeOptions("127.0.0.1", 0, 0, 0, max_inferences=4)
    random_, statuses = random.Random(8), Counter[str]()

    async def ask(server: ServerState) -> None:
        async with AsyncClient(server.grpc_url, retries=0) as client:
            request = next(Calls().recommend(ids[:3], None, None, True, None, None))
            limit = asyncio.Semaphore(64)

            async def one() -> None:
                async with limit:
                    try:
                        await client._connection.invoke(request, random_.uniform(0.001, 0.06))
                    except InferenceServerException as error:
                        statuses[error.status()] += 1

            await asyncio.gather(*(one() for _ in range(4000)))

    with running_server(repository, options) as server:
        asyncio.run(ask(server))
        assert psutil.Process(server.pid).status() != psutil.STATUS_ZOMBIE
        with Client(server.grpc_url, timeout=100) as client:
            assert client.recommend(ids[:3]).items
        assert read_state(repository) == server
    assert statuses["StatusCode.UNAVAILABLE"]
