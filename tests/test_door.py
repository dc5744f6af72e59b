"""The door before the server's HTTP: what it lets through, what it refuses, and that it is always there."""

import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from conftest import copied, infer, post
from tritonclient.utils import InferenceServerException

from footfall.contract import GRPC_KEY_HEADER, KEY_HEADER
from footfall_serving.door.callers import Callers
from footfall_serving.door.drain import QUIET_S, drain_file
from footfall_serving.door.http.body import Chunks
from footfall_serving.door.http.connection import Connection
from footfall_serving.door.http.refused import Refused
from footfall_serving.door.limits import MAX_BODY_BYTES, MAX_CHUNKS, MAX_CONNECTIONS, MAX_SECONDS
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

INFER = "/v2/models/footfall/infer"


def door_of(server: ServerState) -> psutil.Process:
    """The door that this process keeps for the server; raises StopIteration while there is none."""
    return next(child for child in psutil.Process().children() if server.http_port in ports(child))


def ports(process: psutil.Process) -> set[int]:
    connections = process.net_connections("tcp")
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def said(server: ServerState, request: bytes) -> tuple[int, dict[str, Any]]:
    """The answer to these very bytes; the connection is closed after them for writing."""
    with socket.create_connection((server.host, server.http_port), timeout=30) as line:
        line.sendall(request)
        answer = http.client.HTTPResponse(line)
        answer.begin()
        return answer.status, json.loads(answer.read() or b"{}")


def chunked(path: str, body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return f"POST {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"


def body_of(*inputs: dict[str, Any]) -> bytes:
    return json.dumps({"inputs": inputs}).encode()


def item_ids(ids: list[str]) -> dict[str, Any]:
    return {"name": "item_id", "shape": [1, len(ids)], "datatype": "BYTES", "data": ids}


def top_k(shape: list[Any], data: list[Any]) -> dict[str, Any]:
    return {"name": "top_k", "shape": shape, "datatype": "INT32", "data": data}


@pytest.mark.parametrize(
    ("shape", "name", "kind"),
    [
        ([1, 1099511627776], "top_k", "INT32"),
        ([1, 4611686018427387904], "timestamp", "INT64"),
        ([1, 536870912], "top_k", "INT32"),
        ([2**32, 2**32], "timestamp", "INT64"),
        ([1, -1], "top_k", "INT32"),
        ([1] * 4096, "top_k", "INT32"),
        ([1, 1.5], "top_k", "INT32"),
        ([1, 2**70], "item_id", "BYTES"),
    ],
)
def test_a_shape_that_would_end_or_bloat_the_server_is_refused_by_its_value(
    server: ServerState, shape: list[Any], name: str, kind: str
) -> None:
    tensor = {"name": name, "shape": shape, "datatype": kind, "data": [1]}
    for json_length in (None, True):
        body = body_of(item_ids(["x"]), tensor)
        headers = {"Inference-Header-Content-Length": str(len(body))} if json_length else {}
        status, answer = sent(server, body, headers)
        assert status == 400
        assert f"the shape of '{name}' is [" in answer["error"]
    assert psutil.pid_exists(server.pid)


def sent(
    server: ServerState, body: bytes, headers: dict[str, str], path: str = INFER
) -> tuple[int, dict[str, Any]]:
    line = http.client.HTTPConnection(server.host, server.http_port, timeout=30)
    try:
        line.request("POST", path, body, headers)
        answer = line.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        line.close()


def test_two_million_chunks_of_one_byte_are_refused() -> None:
    chunks, buffer = Chunks(), bytearray(b"1\r\nx\r\n" * 2_000_000)
    with pytest.raises(Refused, match=f"more than {MAX_CHUNKS} chunks"):
        chunks.take(buffer)


def test_the_shared_memory_api_needs_the_key_on_both_protocols(server: ServerState) -> None:
    region = {"key": f"/{server.shm_prefix}", "offset": 0, "byte_size": 64}
    for kind in ("system", "cuda"):
        status, answer = post(f"{server.http_url}/v2/{kind}sharedmemory/region/a/register", region)
        assert (status, "restricted" in answer["error"]) == (403, True)
        request = f"GET /v2/{kind}sharedmemory/status HTTP/1.1\r\n{{}}\r\n"
        assert said(server, request.format("").encode())[0] == 403
    key = f"{KEY_HEADER}: {server.repository_key}\r\n"
    assert said(server, f"GET /v2/systemsharedmemory/status HTTP/1.1\r\n{key}\r\n".encode())[0] == 200
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="restricted"):
            client.register_system_shared_memory("a", server.shm_prefix, 64)
        with pytest.raises(InferenceServerException, match="restricted"):
            client.get_system_shared_memory_status()
        headers = {GRPC_KEY_HEADER: server.repository_key}
        assert not client.get_system_shared_memory_status(headers=headers).regions


def test_what_the_server_reads_is_what_the_door_checked(server: ServerState, ids: list[str]) -> None:
    """The server takes the first of two members of one name, the door the last."""
    plain = infer(server, ("item_id", "BYTES", ids[:2]), ("top_k", "INT32", [3]))
    twice = body_of(item_ids(ids[:2]), top_k([1, 1], [3])).replace(
        b'"top_k", "shape": [1, 1]', b'"top_k", "shape": [1, 1099511627776], "shape": [1, 1]'
    )
    assert twice.count(b'"shape"') == 3
    assert sent(server, twice, {}) == plain
    assert plain[0] == 200


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "both a Content"),
        (b"GET /v2 HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "twice"),
        (b"GET /v2 HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "is b'-1', expected a number"),
        (b"GET /v2 HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "is b'\\+1', expected a number"),
        (b"GET /v2 HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", "b'xchunked' is not chunked"),
        (b"GET /v2 HTTP/1.1\r\nContent-Length : 1\r\n\r\n", "is no header"),
        (b"GET /v2 HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", "is no header"),
        (b"GET /v2 HTTP/1.1\nA: b\n\r\n\r\n", "is no request line"),
        (b"GET http://other/v2 HTTP/1.1\r\n\r\n", "is no request line"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "is no request line"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(
    server: ServerState, request_: bytes, sentence: str
) -> None:
    status, answer = said(server, request_.replace(b"POST / ", f"POST {INFER} ".encode()))
    assert status == 400
    assert sentence.replace("\\", "") in answer["error"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", 404),
        (b"GET /v2/models/../health/live HTTP/1.1\r\n\r\n", 404),
        (b"GET /v2/models/footfall%2Finfer HTTP/1.1\r\n\r\n", 404),
        (b"POST /v2/models/footfall/generate HTTP/1.1\r\n\r\n", 404),
        (b"PUT /v2/models/footfall/infer HTTP/1.1\r\n\r\n", 405),
        (b"GET /v2 HTTP/1.1\r\nContent-Encoding: br\r\n\r\n", 415),
        (b"GET /v2 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413),
        (b"GET /v2 HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nA: " + b"a" * 20_000, 431),
    ],
)
def test_what_is_not_offered_or_too_large_is_refused_by_its_status(
    server: ServerState, request_: bytes, status: int
) -> None:
    found, answer = said(server, request_)
    assert found == status
    assert answer["error"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[1]", "the request is [1], expected an object"),
        (b'{"id": "1"}', "the request has no inputs"),
        (b'{"inputs": 3}', "inputs is 3, expected a list"),
        (b'{"inputs": [3]}', "an input is 3, expected an object"),
        (b'{"outputs": [{}]}', "an output's name is None"),
        (b'{"surprise": 1}', "the request has a field 'surprise'"),
        (b'{"inputs": [' + b"{}," * 65 + b"{}]}", "there are 66 inputs"),
        (b'{"id": "' + b"x" * 300 + b'"}', "the request's id is"),
        (b'{"parameters": {"priority": [[]]}}', "the parameter 'priority' of the request is [[]]"),
        (b'{"parameters": {"a": 1}}', "the parameter 'a' of the request is not taken"),
        (
            b'{"outputs": [{"name": "score", "parameters": {"binary_data": 0}}]}',
            "the parameter 'binary_data' of an output is 0, expected true or false",
        ),
        (
            b'{"outputs": [{"name": "recommended_id", "parameters": {"classification": 1}}]}',
            "the parameter 'classification' of an output is not taken",
        ),
        (body_of({"name": "a", "shape": [1], "datatype": "TEXT"}), "the datatype of 'a' is 'TEXT'"),
        (body_of(top_k([1, 2], [1])), "'top_k' has 1 elements, its shape [1, 2] says 2"),
        (body_of(top_k([1, 1], [[[1], [2]]])), "'top_k' has 2 elements, its shape [1, 1] says 1"),
        (body_of(top_k([1, 1], [{}])), "the data of 'top_k' holds {}, which is no INT32"),
        (body_of(top_k([1, 1], [2**31])), "the data of 'top_k' holds 2147483648, which is no INT32"),
        (body_of(top_k([1, 1], ["1"])), "the data of 'top_k' holds '1', which is no INT32"),
        (b"[" + b"0," * 2**20 + b"0]", "commas, colons and brackets"),
        (b'{"inputs": []}\xff', "the body is not JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_malformed_body_is_refused_in_a_sentence(server: ServerState, body: bytes, sentence: str) -> None:
    status, answer = sent(server, body, {})
    assert status == 400
    assert sentence in answer["error"]


@pytest.mark.parametrize("size", [-1, 2**40, 3, 5, "4", None])
def test_binary_data_whose_size_lies_is_refused(server: ServerState, size: Any) -> None:
    tensor = {
        "name": "top_k",
        "shape": [1, 1],
        "datatype": "INT32",
        "parameters": {"binary_data_size": size},
    }
    text = body_of(item_ids(["x"]), tensor)
    status, _ = sent(server, text + b"\x03\0\0\0", {"Inference-Header-Content-Length": str(len(text))})
    assert status == 400
    assert sent(server, text, {"Inference-Header-Content-Length": str(len(text) + 9)})[0] == 400


def test_packed_bodies_are_unpacked_within_limits(server: ServerState, ids: list[str]) -> None:
    body = body_of(item_ids(ids[:2]))
    packed = {"Content-Encoding": "gzip"}
    assert sent(server, gzip.compress(body), packed) == sent(server, body, {})
    status, answer = sent(server, gzip.compress(b" " * (MAX_BODY_BYTES + 1)), packed)
    assert (status, f"more than {MAX_BODY_BYTES} bytes" in answer["error"]) == (413, True)
    assert sent(server, gzip.compress(body)[:-9], packed)[0] == 400
    assert sent(server, gzip.compress(body) * 2, packed)[0] == 400
    assert sent(server, body, packed)[0] == 400


def test_chunks_and_pipelined_requests_are_answered_in_order(server: ServerState, ids: list[str]) -> None:
    right = sent(server, body_of(item_ids(ids[:2])), {})
    assert said(server, chunked(INFER, body_of(item_ids(ids[:2])), 7)) == right
    one = body_of(item_ids(ids[:2]))
    first = f"POST {INFER} HTTP/1.1\r\nContent-Length: {len(one)}\r\n\r\n".encode() + one
    last = b"GET /v2/models/nosuch HTTP/1.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection((server.host, server.http_port), timeout=30) as line:
        line.sendall(first * 3 + last)
        answers = line.makefile("rb").read()
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b"HTTP/1.1 ") == 4
    assert b"nosuch" in answers.rpartition(b"HTTP/1.1 ")[2]


def test_the_server_itself_is_reached_by_its_owner_alone(server: ServerState) -> None:
    assert ports(psutil.Process(server.pid)) == set()
    door = door_of(server)
    assert ports(door) == {server.http_port, server.grpc_port}
    assert stat.S_IMODE(socket_folder(door).stat().st_mode) == 0o700


def socket_folder(door: psutil.Process) -> Path:
    return Path(json.loads(door.cmdline()[-1])["http_file"]).parent


def test_a_door_that_dies_is_opened_again_and_callers_wait_for_it(
    tiny_repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    heard: list[str] = []
    with running_server(copied(tiny_repository, tmp_path / "repository"), say=heard.append) as state:
        door = door_of(state)
        folder = socket_folder(door)
        os.kill(door.pid, signal.SIGKILL)
        assert infer(state, ("item_id", "BYTES", ids[:2]))[0] == 200
        assert heard == ["door: it ended with code -9; it is opened again"]
        again = door_of(state)
        assert again.pid != door.pid
    assert not again.is_running()
    assert not folder.exists()


EOF = b"(no more)"


class FakeLoop:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.later: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, function: Callable[[], None]) -> None:
        self.later.append(function)


class FakeTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written, self.closed = b"", False

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.written += EOF

    def resume_reading(self) -> None:
        """What comes is the test's to say."""

    def close(self) -> None:
        self.closed = True

    abort = close


def connect(callers: Callers, upstream: Any = None) -> tuple[Connection, FakeTransport]:
    connection, transport = Connection(callers, upstream), FakeTransport()
    connection.connection_made(cast(Any, transport))
    return connection, transport


def test_a_request_that_trickles_is_refused_and_an_idle_connection_is_not() -> None:
    loop = FakeLoop()
    callers = Callers(cast(Any, loop))
    idle, slow = connect(callers), connect(callers)
    for byte in b"GET /v2":
        slow[0].data_received(bytes([byte]))
        loop.now += MAX_SECONDS / 6
    callers.look()
    assert slow[1].written.startswith(b"HTTP/1.1 408 ")
    assert slow[1].written.endswith(EOF)
    loop.now += 2 * MAX_SECONDS
    callers.look()
    assert slow[1].closed
    assert not idle[1].closed


def test_a_door_that_drains_is_not_ready_and_closes_behind_each_answer(tmp_path: Path) -> None:
    loop, grpc_file = FakeLoop(), str(tmp_path / "grpc:1")
    callers = Callers(cast(Any, loop), grpc_file=grpc_file)
    waiting: list[Callable[[bytes], None]] = []
    upstream = SimpleNamespace(ask=lambda request, on_answer: waiting.append(on_answer))
    (asks, answered), (checks, told) = connect(callers, upstream), connect(callers)
    asks.data_received(b"GET /v2 HTTP/1.1\r\n\r\n")
    drain_file(grpc_file).touch()
    assert not callers.drain()
    checks.data_received(b"GET /v2/health/ready HTTP/1.1\r\n\r\n")
    assert told.written.startswith(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n")
    loop.now += QUIET_S
    assert not callers.drain()
    waiting[0](b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert answered.written == b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    assert answered.closed and told.closed
    for connection in (asks, checks):
        connection.connection_lost(None)
    assert callers.drain()


def test_one_connection_more_than_there_may_be_takes_the_place_of_the_idlest() -> None:
    loop = FakeLoop()
    callers = Callers(cast(Any, loop))
    connections = []
    for _ in range(MAX_CONNECTIONS):
        connections.append(connect(callers))
        loop.now += 1
    connections[0][0].busy = True
    connect(callers)
    assert [place for place, (_, transport) in enumerate(connections) if transport.closed] == [1]


def test_what_perf_analyzer_and_tritonclient_ask_passes_through_the_door(
    server: ServerState, ids: list[str]
) -> None:
    right = infer(server, ("item_id", "BYTES", ids[:2]))[1]["outputs"]
    best = next(output["data"] for output in right if output["name"] == "recommended_id")
    with httpclient.InferenceServerClient(server.http_url, concurrency=2) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("footfall", "1")
        assert {row["name"] for row in client.get_model_metadata("footfall")["inputs"]} >= {"item_id"}
        assert client.get_model_config("footfall", "1")["platform"] == "ensemble"
        key = {KEY_HEADER: server.repository_key}
        assert client.get_inference_statistics("footfall", headers=key)["model_stats"]
        assert client.get_inference_statistics(headers=key)["model_stats"]
        assert client.get_server_metadata()["version"]
        for binary in (True, False):
            sent = httpclient.InferInput("item_id", [1, 2], "BYTES")
            sent.set_data_from_numpy(
                np.array([[id_.encode() for id_ in ids[:2]]], dtype=np.object_), binary_data=binary
            )
            wanted = [httpclient.InferRequestedOutput("recommended_id", binary_data=binary)]
            for packing in (None, "gzip", "deflate"):
                options = {
                    "request_compression_algorithm": packing,
                    "response_compression_algorithm": packing,
                }
                answer = client.infer("footfall", [sent], outputs=wanted, request_id="7", **options)
                found = answer.as_numpy("recommended_id").reshape(-1)
                assert [id_.decode() if isinstance(id_, bytes) else id_ for id_ in found] == best
                assert answer.get_response()["id"] == "7"
            assert client.async_infer("footfall", [sent]).get_result().as_numpy("score") is not None


def test_curl_gets_an_answer_to_a_body_that_it_announces(server: ServerState) -> None:
    """Of more than a megabyte; curl then waits to be told to go on."""
    body = body_of(item_ids(["unknown" * 10] * 20_000))
    url = f"http://{server.http_url}{INFER}"
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "--noproxy", "*", "-sS", "-H", "Expect: 100-continue", "--data-binary", "@-", url]
    run = subprocess.run(command, input=body, capture_output=True, timeout=60, check=True)
    assert json.loads(run.stdout)["outputs"]
