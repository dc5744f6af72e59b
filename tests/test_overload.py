"""More requests than the server can answer: who is refused, and who has it answered after all."""

import asyncio
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from conftest import copied
from raw_grpc import RawGrpc, message
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from footfall.contract import ENSEMBLE, OVERLOADED
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


def leave_by_deadline(server: ServerState, ids: list[str], statuses: Counter[str]) -> None:
    """gRPC calls, 64 at once, that their callers wait 1 to 200 ms for."""
    random_ = random.Random(8)

    async def ask() -> None:
        async with AsyncClient(server.grpc_url, retries=0) as client:
            request = next(Calls().recommend(ids[:3], None, None, True, None, None))
            limit = asyncio.Semaphore(64)

            async def one() -> None:
                async with limit:
                    try:
                        await client._connection.invoke(request, random_.uniform(0.001, 0.2))
                    except InferenceServerException as error:
                        statuses[error.status()] += 1

            await asyncio.gather(*(one() for _ in range(2000)))

    asyncio.run(ask())


def inference(ids: list[str]) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
    request.inputs.add(name="item_id", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(len(ids[0]).to_bytes(4, "little") + ids[0].encode())
    return request


def leave_by_cancelling(server: ServerState, ids: list[str], statuses: Counter[str]) -> None:
    """Calls of one message and streams of several."""
    with grpc.insecure_channel(server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(40):
            calls = [stub.ModelInfer.future(inference(ids)) for _ in range(5)]
            calls += [stub.ModelStreamInfer(iter([inference(ids)] * 3)) for _ in range(5)]
            time.sleep(0.005)
            for call in calls:
                call.cancel()
    statuses["cancelled"] += 1


def leave_by_breaking_the_connection(server: ServerState, ids: list[str], statuses: Counter[str]) -> None:
    """Over both protocols, with a request on it; half of them are told nothing but a reset."""
    for number in range(200):
        with RawGrpc(server.host, server.grpc_port) as raw:
            raw.put(raw.open(), [message(inference(ids).SerializeToString())], end=bool(number % 3))
            raw.reset_on_close(number % 2)
        line = socket.create_connection((server.host, server.http_port), timeout=30)
        body = json.dumps(
            {"inputs": [{"name": "item_id", "shape": [1, 1], "datatype": "BYTES", "data": ids[:1]}]}
        )
        head = f"POST /v2/models/{ENSEMBLE}/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        line.sendall((head + body).encode())
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", number % 2, 0))
        line.close()
    statuses["broken"] += 1


def test_callers_who_leave_an_overloaded_server_do_not_end_it(
    tiny_repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    """A server that is told of them dies of it, at times within a second."""
    repository = copied(tiny_repository, tmp_path / "repository")
    statuses, said = Counter[str](), list[str]()
    options = ServeOptions("127.0.0.1", 0, 0, 0, max_inferences=4)
    with running_server(repository, options, said.append) as server:
        leaving = [
            threading.Thread(target=leave, args=(server, ids, statuses))
            for leave in (leave_by_deadline, leave_by_cancelling, leave_by_breaking_the_connection)
        ]
        for thread in leaving:
            thread.start()
        for thread in leaving:
            thread.join()
        with Client(server.grpc_url, timeout=100, retries=100) as client:
            assert client.recommend(ids[:3]).items
        assert (read_state(repository), said) == (server, [])
        assert psutil.Process(server.pid).status() != psutil.STATUS_ZOMBIE
    assert set(statuses) >= {"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "cancelled", "broken"}
