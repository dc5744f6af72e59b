"""At length, on one server: 20,000 requests of every malformed kind, and beside them callers of what is right."""

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
from asker import Asker
from conftest import copied
from test_contract_fuzz import ask_by_the_contract
from test_door import INFER, body_of, door_of, item_ids
from test_fuzz import ask_malformed_grpc, ask_malformed_http, send_spoilt_frames
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from footfall_client import Client
from footfall_client._settings import Protocol
from footfall_serving.server import running_server
from footfall_serving.state import ServerState
from footfall_serving.stubs import live_stubs

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

ROUNDS = 5
MAX_GROWTH_BYTES = 64 * 2**20
REFUSED = {"StatusCode.INVALID_ARGUMENT", "StatusCode.INTERNAL"}
"""The latter where a step is told what only a fault of the step before it would tell it."""
INDICES = [0, 1, 2, 3, -1, -5, 40, 255, 10**6, 2**31 - 1, -(2**31)]


def ask_the_contract(server: ServerState, ids: list[str], number: int, seed: int) -> None:
    ask_by_the_contract(server, ids, number // 2, seed)  # each over both protocols


def send_spoilt_heads(server: ServerState, ids: list[str], number: int, seed: int) -> None:
    """HTTP/1 with bytes of it changed, in the head and behind it; who gets an answer gets one of HTTP."""
    random_ = random.Random(seed)
    body = body_of(item_ids(ids[:2]))
    whole = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    for _ in range(number):
        sent = bytearray(whole)
        for _ in range(random_.randrange(1, 4)):
            sent[random_.randrange(len(sent))] = random_.randrange(256)
        address = server.host, server.http_port
        with socket.create_connection(address, timeout=30) as line, suppress(ConnectionError):
            line.sendall(sent[: random_.choice([len(sent)] * 3 + [random_.randrange(len(sent))])])
            line.shutdown(socket.SHUT_WR)
            found = line.recv(65536)
            assert not found or found.startswith(b"HTTP/1.1 "), (bytes(sent), found)


def ask_the_steps(server: ServerState, ids: list[str], number: int, seed: int) -> None:
    """As a fault of the step before would, by the server's own socket: columns that lie, indices out of range."""
    random_ = random.Random(seed)
    models = sorted({stub.model for stub in live_stubs(server.pid)})
    with grpcclient.InferenceServerClient(f"unix:{server.grpc_file}") as client:
        tensors = {model: client.get_model_metadata(model).inputs for model in models}
        for _ in range(number):
            model, size = random_.choice(models), random_.choice([1, 2, 3, 20, 64])
            sent = [
                _drawn(tensor.name, tensor.datatype, random_.choice([size] * 9 + [1]), ids, random_)
                for tensor in tensors[model]
                if random_.random() < 0.95
            ]
            try:
                client.infer(model, sent, client_timeout=30)
            except InferenceServerException as error:
                assert error.status() in REFUSED, error


def _drawn(name: str, kind: str, size: int, ids: list[str], random_: random.Random) -> grpcclient.InferInput:
    values: list[Any] = INDICES if kind.startswith("INT") else [0.0, 1.0, float("nan"), -1e30]
    if kind == "BYTES":
        values = [ids[0].encode(), b"", b"\xff", b"x" * 600, b"unknown"]
    array = np.array([random_.choices(values, k=size)], dtype=triton_to_np_dtype(kind))
    tensor = grpcclient.InferInput(name, list(array.shape), kind)
    tensor.set_data_from_numpy(array)
    return tensor


PARTS: dict[str, tuple[Callable[[ServerState, list[str], int, int], object], int]] = {
    "the contract": (ask_the_contract, 6000),
    "JSON": (ask_malformed_http, 4000),
    "protobuf": (ask_malformed_grpc, 4000),
    "HTTP/2": (send_spoilt_frames, 1500),
    "HTTP/1": (send_spoilt_heads, 1500),
    "the steps": (ask_the_steps, 3000),
}


@contextmanager
def honest(server: ServerState, ids: list[str]) -> Iterator[None]:
    """Two who ask one thing on and on: none of it may fail, and every answer is that of the beginning."""
    urls: list[tuple[str, Protocol]] = [(server.grpc_url, "grpc"), (server.http_url, "http")]
    with ExitStack() as stack:
        with Client(server.grpc_url) as client:
            expected = client.recommend(ids[:5], k=10)
        askers = [Asker(url, lambda client: client.recommend(ids[:5], k=10), kind) for url, kind in urls]
        for asker in askers:
            asker.start()
            stack.callback(asker.join)
            stack.callback(asker.ended.set)
        yield
    for asker in askers:
        assert asker.failures == []
        assert len(asker.answers) > 1000
        for answer in asker.answers:
            assert [item.id for item in answer.items] == [item.id for item in expected.items]
            # Of a batch of another size the sums differ in the last digits.
            first, second = ([item.score for item in one.items] for one in (answer, expected))
            assert np.allclose(first, second, atol=1e-4)


def test_twenty_thousand_malformed_requests_harm_nobody(
    tiny_repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    said: list[str] = []
    sizes = []
    with running_server(copied(tiny_repository, tmp_path / "repository"), say=said.append) as server:
        stubs = {stub.pid for stub in live_stubs(server.pid)}
        door = door_of(server)
        watched = [psutil.Process(pid) for pid in (server.pid, door.pid, *stubs)]
        with honest(server, ids):
            for turn in range(ROUNDS):
                for ask, number in PARTS.values():
                    ask(server, ids, number // ROUNDS, turn)
                sizes.append(sum(process.memory_info().rss for process in watched))
        assert {stub.pid for stub in live_stubs(server.pid)} == stubs
        assert door_of(server).pid == door.pid
    assert said == []
    assert sizes[-1] - sizes[0] < MAX_GROWTH_BYTES, sizes
    print("MiB after each round:", [size >> 20 for size in sizes])
