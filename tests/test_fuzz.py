"""Thousands of malformed, cancelled and abandoned requests: the server answers on as if none had been."""

import contextlib
import copy
import http.client
import json
import random
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from conftest import eventually, infer
from raw_grpc import STREAM_INFER, RawGrpc, message
from test_door import INFER, body_of, door_of, item_ids
from tritonclient.grpc import service_pb2, service_pb2_grpc

from footfall.contract import COMPOSING_MODELS, REQUEST
from footfall_serving.state import ServerState
from footfall_serving.stubs import live_stubs

MAX_GROWTH_BYTES = 64 * 2**20
SIZES = [0, 1, 2, 3, 17, 64, 65, 1000, 2**17, 2**17 + 1, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -1]
VALUES: list[Any] = [
    *SIZES,
    None,
    "",
    "x",
    "\x00",
    "é" * 40,
    1.5,
    -1e308,
    True,
    [],
    {},
    [[]],
    [[1], 2],
    2**64,
]
NAMES = [
    *(tensor.name for tensor in REQUEST),
    "surprise",
    "",
    "item_id\x00",
    "classification",
    "shared_memory_region",
]
KINDS = ["BYTES", "BOOL", "INT32", "INT64", "FP32", "FP64", "UINT8", "FP16", "BF16", "", "TEXT"]
MODELS = [*["footfall"] * 8, *COMPOSING_MODELS, "nosuch", ""]

REFUSALS = {grpc.StatusCode[name] for name in ("INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED")}


@pytest.fixture
def unharmed(server: ServerState, ids: list[str]) -> Callable[[], None]:
    """To be called at the end: the same processes, about the same memory, the same answer."""
    question = ("item_id", "BYTES", ids[:3])
    door, process = door_of(server), psutil.Process(server.pid)
    before = infer(server, question)
    stubs = {stub.pid for stub in live_stubs(server.pid)}
    watched = [process, door, *map(psutil.Process, stubs)]
    bytes_before = sum(each.memory_info().rss for each in watched)

    def check() -> None:
        assert before[0] == 200
        # What callers asked who have left may still be under way, and as many as the door lets through.
        assert eventually(lambda: infer(server, question)[0] != 503)
        assert infer(server, question) == before
        assert door_of(server).pid == door.pid
        assert {stub.pid for stub in live_stubs(server.pid)} == stubs
        assert sum(each.memory_info().rss for each in watched) < bytes_before + MAX_GROWTH_BYTES

    return check


def spoilt(value: Any, random_: random.Random) -> Any:
    """The JSON value with one place of it changed, lost or doubled."""
    if isinstance(value, dict) and value and random_.random() < 0.9:
        name = random_.choice(sorted(value))
        changed = dict(value)
        if random_.random() < 0.1:
            del changed[name]
        elif random_.random() < 0.05:
            changed[random_.choice(NAMES)] = random_.choice(VALUES)
        else:
            changed[name] = spoilt(value[name], random_)
        return changed
    if isinstance(value, list) and value and random_.random() < 0.9:
        place = random_.randrange(len(value))
        if random_.random() < 0.1:
            return value + value[: place + 1]
        return [*value[:place], spoilt(value[place], random_), *value[place + 1 :]]
    return random_.choice([*VALUES, *NAMES, *KINDS])


def ask_malformed_http(server: ServerState, ids: list[str], number: int, seed: int) -> list[int]:
    """The statuses."""
    random_ = random.Random(seed)
    whole = json.loads(body_of(item_ids(ids[:2])))
    whole["inputs"] += [
        {"name": "top_k", "shape": [1, 1], "datatype": "INT32", "data": [3]},
        {"name": "timestamp", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]},
        {
            "name": "exclude_seen",
            "shape": [1, 1],
            "datatype": "BOOL",
            "parameters": {"binary_data_size": 1},
        },
    ]
    whole["outputs"] = [
        {"name": "recommended_id", "parameters": {"binary_data": True}},
        {"name": "score", "parameters": {"binary_data": False}},
    ]
    whole |= {"id": "1", "parameters": {"sequence_id": 1, "priority": 1, "timeout": 1}}
    statuses = []
    line = http.client.HTTPConnection(server.host, server.http_port, timeout=30)
    for _ in range(number):
        text = json.dumps(spoilt(whole, random_)).encode()
        if random_.random() < 0.1:
            place = random_.randrange(len(text))
            text = text[:place] + bytes([random_.randrange(256)]) + text[place + 1 :]
        said = random_.choice([len(text)] * 20 + [0, len(text) - 1, len(text) + 1, 2**40])
        headers = {"Inference-Header-Content-Length": str(said)} if random_.random() < 0.95 else {}
        line.request("POST", INFER, text + random_.choice([b"\x01"] * 20 + [b""]), headers)
        answer = line.getresponse()
        found = answer.read()
        assert answer.status in (200, 400), (answer.status, found, text)
        assert answer.status == 200 or json.loads(found)["error"], text
        statuses.append(answer.status)
    line.close()
    return statuses


def test_malformed_http_requests_harm_nobody(
    server: ServerState, ids: list[str], unharmed: Callable[[], None]
) -> None:
    assert ask_malformed_http(server, ids, 2000, seed=8).count(400) > 1000
    unharmed()


def grpc_request(random_: random.Random, ids: list[str]) -> service_pb2.ModelInferRequest:
    """About as often whole as spoilt, in each of its parts."""
    request = service_pb2.ModelInferRequest(model_name=random_.choice(MODELS), id="1")
    for name in [*random_.sample(NAMES, random_.randrange(1, 4)), "item_id"]:
        tensor = request.inputs.add(name=name, datatype=random_.choice(KINDS))
        for _ in range(random_.choice([2, 2, 2, 1, 0, 9])):
            tensor.shape.append(random_.choice([1, 1, 2, random_.choice(SIZES)]))
        if random_.random() < 0.3:
            tensor.parameters["binary_data_size"].int64_param = random_.choice(SIZES)
        if random_.random() < 0.2:
            tensor.parameters["shared_memory_region"].string_param = "a"
        if random_.random() < 0.2:
            tensor.contents.int64_contents.extend([1, 2])
        length = random_.choice([0, 1, 3, len(ids[0]), 2**31, 2**32 - 1])
        raw = length.to_bytes(4, "little") + ids[0].encode()
        request.raw_input_contents.append(raw * random_.randrange(3))
    if random_.random() < 0.3:
        output = request.outputs.add(name=random_.choice(["score", "recommended_id", "", "x"]))
        output.parameters["classification"].int64_param = random_.choice(SIZES)
    return request


def ask_malformed_grpc(server: ServerState, ids: list[str], number: int, seed: int) -> int:
    """How many were refused."""
    random_ = random.Random(seed)
    refused = 0
    with grpc.insecure_channel(server.grpc_url) as channel:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        for _ in range(number):
            try:
                ask(grpc_request(random_, ids), timeout=30)
            except grpc.RpcError as error:
                code = error.code()
                assert code in REFUSALS, error
                assert error.details()
                refused += 1
    return refused


def test_malformed_grpc_requests_harm_nobody(
    server: ServerState, ids: list[str], unharmed: Callable[[], None]
) -> None:
    assert ask_malformed_grpc(server, ids, 2000, seed=8) > 1000
    unharmed()


def test_cancelled_calls_and_passed_deadlines_harm_nobody(
    server: ServerState, ids: list[str], unharmed: Callable[[], None]
) -> None:
    request = service_pb2.ModelInferRequest(model_name="footfall")
    request.inputs.add(name="item_id", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(np.uint32(len(ids[0])).tobytes() + ids[0].encode())
    with grpc.insecure_channel(server.grpc_url) as channel:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        calls = [ask.future(copy.copy(request), timeout=0.002) for _ in range(300)]
        calls += [ask.future(copy.copy(request), timeout=30) for _ in range(200)]
        for call in calls[300:]:
            call.cancel()
        ended = [call.exception() if not call.cancelled() else None for call in calls]
    for error in filter(None, ended):
        assert error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE), error
    unharmed()


def test_callers_who_leave_before_their_answer_harm_nobody(
    server: ServerState, ids: list[str], unharmed: Callable[[], None]
) -> None:
    body = body_of(item_ids(ids[:2]))
    for _ in range(200):
        line = http.client.HTTPConnection(server.host, server.http_port, timeout=30)
        line.request("POST", INFER, body)
        line.close()
    unharmed()


def send_spoilt_frames(server: ServerState, ids: list[str], number: int, seed: int) -> None:
    random_ = random.Random(seed)
    for _ in range(number):
        with RawGrpc(server.host, server.grpc_port) as raw:
            for _ in range(random_.randrange(1, 4)):
                stream = raw.open(random_.choice(["ModelInfer", STREAM_INFER, "ModelConfig"]))
                body = message(grpc_request(random_, ids).SerializeToString())
                raw.h2.send_data(stream, body[: random_.randrange(len(body) + 1)][:16384])
            frames = bytearray(raw.h2.data_to_send())
            for _ in range(random_.randrange(4)):
                frames[random_.randrange(len(frames))] = random_.randrange(256)
            with contextlib.suppress(ConnectionError):
                raw.send_raw(bytes(frames))


def test_spoilt_frames_harm_nobody(server: ServerState, ids: list[str], unharmed: Callable[[], None]) -> None:
    send_spoilt_frames(server, ids, 500, seed=8)
    unharmed()
