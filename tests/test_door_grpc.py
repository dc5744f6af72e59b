"""The door before the server's gRPC: what it lets through, what it refuses, and that nobody else notices."""

import json
import os
import queue
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import grpc
import hpack
import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
from certificates import issued, written
from conftest import copied, eventually, post
from raw_grpc import INFER, STREAM_INFER, RawGrpc, message
from test_door import FakeLoop, door_of
from tritonclient.grpc import service_pb2, service_pb2_grpc

from footfall.contract import COMPOSING_MODELS, GRPC_KEY_HEADER, OVERLOADED, RECOMMENDER
from footfall_client import Client
from footfall_serving.door.callers import Callers
from footfall_serving.door.drain import QUIET_S, drain_file
from footfall_serving.door.grpc.connection import Connection
from footfall_serving.door.grpc.flow import Flow
from footfall_serving.door.grpc.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frames,
    Malformed,
    frame,
)
from footfall_serving.door.grpc.inference import check
from footfall_serving.door.grpc.line import Line
from footfall_serving.door.grpc.literal import literal
from footfall_serving.door.grpc.refused import Refused, Status
from footfall_serving.door.grpc.upstream import Upstream
from footfall_serving.door.hold import LONGEST_S, begin, hold_file, idle_file
from footfall_serving.door.limits import (
    MAX_BODY_BYTES,
    MAX_FRAME_BYTES,
    MAX_HEAD_BYTES,
    MAX_HELD_BYTES,
    MAX_SECONDS,
)
from footfall_serving.options import ServeOptions
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

CLASSES = "the parameter 'classification' of an output is not taken"
MAX_GROWTH_BYTES = 16 * 2**20


def inference(model: str = "footfall", id_: bytes = b"a", **fields: Any) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model, **fields)
    request.inputs.add(name="item_id", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(len(id_).to_bytes(4, "little") + id_)
    return request


def classes(output: str = "recommended_id") -> service_pb2.ModelInferRequest:
    """What ends server 2.51 where the output is of texts."""
    request = inference()
    request.outputs.add(name=output).parameters["classification"].int64_param = 1
    return request


@pytest.fixture
def raw(server: ServerState) -> Iterator[RawGrpc]:
    """A connection on which a good request is answered at the end as at the beginning, by the same server."""
    with RawGrpc(server.host, server.grpc_port) as connection:
        good = inference().SerializeToString()
        before = connection.ask(good)
        yield connection
        after = connection.ask(good)
        assert (before.status, after.status) == (0, 0)
        assert after.response().outputs == before.response().outputs
        assert psutil.pid_exists(server.pid)


def test_who_asks_for_the_classes_of_texts_is_refused_and_the_server_lives(
    server: ServerState, raw: RawGrpc
) -> None:
    with grpc.insecure_channel(server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for output in ("recommended_id", "score", "nosuch"):
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(classes(output), timeout=30)
            assert (refused.value.code(), refused.value.details()) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                CLASSES,
            )
        answers = stub.ModelStreamInfer(iter([classes()]), timeout=30)
        with pytest.raises(grpc.RpcError) as refused:
            list(answers)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, CLASSES)


def test_after_an_answer_on_a_stream_a_refusal_is_its_trailers(raw: RawGrpc) -> None:
    stream = raw.open(STREAM_INFER)
    raw.put(stream, [message(inference().SerializeToString())], end=False)
    while not raw.answers[stream].body:
        raw.receive()
    raw.put(stream, [message(classes().SerializeToString())], end=False)
    answer = raw.answer(stream)
    assert (answer.status, answer.sentence) == (Status.INVALID_ARGUMENT, CLASSES)
    assert [":status" in headers for headers in answer.headers] == [True, False]


def test_two_messages_in_one_frame_are_both_judged(raw: RawGrpc) -> None:
    both = message(inference().SerializeToString()) + message(classes().SerializeToString())
    for method in (INFER, STREAM_INFER):
        stream = raw.open(method)
        raw.put(stream, [both])
        assert raw.answer(stream).sentence == CLASSES


@pytest.mark.parametrize("parts", [1, 2, 4, 5, 6, 1000])
def test_a_message_in_frames_of_any_size_is_judged_before_its_last_byte_passes(
    raw: RawGrpc, parts: int
) -> None:
    for body, status in ((classes(), Status.INVALID_ARGUMENT), (inference(), 0)):
        whole = message(body.SerializeToString())
        stream = raw.open()
        raw.put(stream, [b"", *(whole[at : at + parts] for at in range(0, len(whole), parts)), b""])
        assert raw.answer(stream).status == status


def test_frames_cut_anywhere_on_the_way_are_put_together(server: ServerState) -> None:
    with RawGrpc(server.host, server.grpc_port) as connection:
        for size in (1, 7, 10):
            for body, status in ((classes(), Status.INVALID_ARGUMENT), (inference(), 0)):
                stream = connection.open()
                connection.h2.send_data(stream, message(body.SerializeToString()), end_stream=True)
                frames = connection.h2.data_to_send()
                for at in range(0, len(frames), size):
                    connection.send_raw(frames[at : at + size])
                assert connection.answer(stream).status == status


def test_padded_frames_and_compressed_messages_are_refused(raw: RawGrpc) -> None:
    stream = raw.open()
    raw.put(stream, [message(inference().SerializeToString())], pad=3)
    assert raw.answer(stream).sentence == "padded DATA frames are not taken"
    stream = raw.open()
    raw.put(stream, [message(inference().SerializeToString(), compressed=1)])
    answer = raw.answer(stream)
    assert answer.status == Status.UNIMPLEMENTED
    assert answer.sentence.startswith("compressed messages are not taken over gRPC")


def test_a_message_of_200_megabytes_is_refused_by_its_length_and_nobody_grows(
    server: ServerState, raw: RawGrpc
) -> None:
    watched = [psutil.Process(server.pid), door_of(server)]
    before = sum(process.memory_info().rss for process in watched)
    body = inference()
    body.raw_input_contents[0] = bytes(200_000_000)
    with grpc.insecure_channel(server.grpc_url, [("grpc.max_send_message_length", -1)]) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(body, timeout=60)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.value.details() == (
            f"the message is {body.ByteSize()} bytes, at most {MAX_BODY_BYTES} are taken"
        )
    stream = raw.open()
    raw.put(stream, [message(b"x", length=2**32 - 1)], end=False)
    assert raw.answer(stream).status == Status.RESOURCE_EXHAUSTED
    assert sum(process.memory_info().rss for process in watched) < before + MAX_GROWTH_BYTES


def varint(number: int, width: int) -> bytes:
    """Of more bytes than it takes."""
    digits = [number >> 7 * place & 0x7F for place in range(width)]
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


def text(number: int, value: bytes, width: int = 1) -> bytes:
    """A field of a message, its tag in `width` bytes."""
    return varint(number << 3 | 2, width) + varint(len(value), 2) + value


REST = inference("").SerializeToString()
ODD = {
    "last of two names": text(1, b"footfall") + text(1, b"ranker") + REST,
    "name at the end": REST + text(1, b"ranker"),
    "more after a zero": text(1, b"ranker\0x") + REST,
    "tag of five bytes": text(1, b"ranker", 5) + REST,
    "unknown fields": varint(99 << 3, 3) + b"\7" + text(98, b"x", 2) + REST + text(1, b"ranker"),
    "a group around another name": text(1, b"ranker") + REST + b"\x9b\6" + text(1, b"footfall") + b"\x9c\6",
    "an output alone": text(1, b"ranker") + text(6, b""),
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_however_it_is_written_a_composing_model_is_closed(raw: RawGrpc, body: bytes) -> None:
    assert service_pb2.ModelInferRequest.FromString(body).model_name.startswith("ranker")
    for method in (INFER, STREAM_INFER):
        answer = raw.ask(body, method)
        assert (answer.status, answer.sentence) == (
            Status.PERMISSION_DENIED,
            "ranker answers only the ensemble: ask footfall",
        )


@pytest.mark.parametrize("step", COMPOSING_MODELS)
def test_composing_models_are_closed_over_both_protocols_and_their_metadata_is_not(
    server: ServerState, raw: RawGrpc, step: str
) -> None:
    sentence = f"{step} answers only the ensemble: ask footfall"
    for method in (INFER, STREAM_INFER):
        answer = raw.ask(inference(step, model_version="1").SerializeToString(), method)
        assert (answer.status, answer.sentence) == (Status.PERMISSION_DENIED, sentence)
    for path in (f"{step}/infer", f"{step}/versions/1/infer"):
        status, said = post(f"{server.http_url}/v2/models/{path}", {"inputs": []})
        assert (status, said) == (403, {"error": sentence})
    if step != RECOMMENDER:  # the one that this server has
        return
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        assert client.is_model_ready(step)
        assert client.get_model_metadata(step).inputs
        assert client.get_model_config(step).config.name == step
        key = {GRPC_KEY_HEADER: server.repository_key}
        assert client.get_inference_statistics(step, headers=key).model_stats
        assert {model.name for model in client.get_model_repository_index(key).models} >= {step}


def test_streaming_clients_get_each_answer_through_the_door(server: ServerState, ids: list[str]) -> None:
    sent = grpcclient.InferInput("item_id", [1, 2], "BYTES")
    sent.set_data_from_numpy(np.array([[id_.encode() for id_ in ids[:2]]], dtype=np.object_))
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        right = client.infer("footfall", [sent]).as_numpy("recommended_id")
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(20):
            client.async_stream_infer("footfall", [sent], request_id=str(number))
        for _ in range(20):
            result, error = answers.get(timeout=60)
            assert error is None
            assert (result.as_numpy("recommended_id") == right).all()
        client.stop_stream()


def test_names_of_what_is_closed_may_be_ids_as_any_other(raw: RawGrpc) -> None:
    for id_ in (b"ranker", b"classification", b"shared_memory_region", "é preprocess".encode()):
        assert raw.ask(inference(id_=id_, id="postprocess").SerializeToString()).status == 0


def test_shared_memory_is_not_taken_in_an_inference(raw: RawGrpc) -> None:
    request = inference()
    request.inputs[0].parameters["shared_memory_region"].string_param = "a"
    answer = raw.ask(request.SerializeToString())
    assert (answer.status, answer.sentence) == (
        Status.INVALID_ARGUMENT,
        "the parameter 'shared_memory_region' of an input is not taken",
    )


def test_what_is_no_protocol_buffer_is_refused() -> None:
    with pytest.raises(Refused, match="is no protocol buffer"):
        check(b"ranker" + inference().SerializeToString())


def test_other_requests_that_name_a_step_pass() -> None:
    load = service_pb2.RepositoryModelLoadRequest(model_name="ranker")
    load.parameters["config"].string_param = json.dumps(
        {"name": "ranker"} | dict.fromkeys(map(str, range(99)))
    )
    for request in (
        load,
        service_pb2.ModelConfigRequest(name="ranker", version="1"),
        service_pb2.ModelStatisticsRequest(name="ranker"),
        service_pb2.SystemSharedMemoryRegisterRequest(name="ranker", key="ranker", offset=1, byte_size=1),
        service_pb2.TraceSettingRequest(model_name="ranker"),
        service_pb2.RepositoryIndexRequest(repository_name="ranker", ready=True),
    ):
        check(request.SerializeToString())


def test_a_good_call_goes_on_beside_a_refused_one(raw: RawGrpc) -> None:
    good, bad = (message(request.SerializeToString()) for request in (inference(), classes()))
    streams = [raw.open() for _ in range(6)]
    for part in (slice(0, 9), slice(9, -1), slice(-1, None)):
        for place, stream in enumerate(streams):
            raw.put(stream, [(bad if place % 2 else good)[part]], end=False)
    for stream in streams:
        raw.h2.end_stream(stream)
    raw.send()
    assert [raw.answer(stream).status for stream in streams] == [0, Status.INVALID_ARGUMENT] * 3


def test_what_is_swallowed_of_refused_calls_takes_no_room_on_the_connection(raw: RawGrpc) -> None:
    """Ten times as much as the server lets a connection send before it reads."""
    request = classes()
    request.raw_input_contents[0] = bytes(2_000_000)
    body = request.SerializeToString()
    for _ in range(20):
        assert raw.ask(body).sentence == CLASSES


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v2 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSMx",
        PREFACE + frame(CONTINUATION, END_HEADERS, 1, b""),
        PREFACE + frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8)),
        PREFACE + frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, END_HEADERS, 3, b""),
        PREFACE + b"\xff\xff\xff\0\0\0\0\0\1",
    ],
)
def test_what_is_no_http_2_closes_its_own_connection(server: ServerState, raw: RawGrpc, sent: bytes) -> None:
    with socket.create_connection((server.host, server.grpc_port), timeout=30) as line:
        line.sendall(sent)
        while line.recv(65536):
            pass


def test_a_block_of_headers_is_passed_on_whole() -> None:
    parts = [frame(HEADERS, END_STREAM, 1, b"a"), frame(CONTINUATION, 0, 1, b"b")]
    block = b"".join(parts) + frame(CONTINUATION, END_HEADERS, 1, b"c")
    data = frame(PING, 0, 0, bytes(8)) + block + frame(DATA, 0, 1, b"d")
    for size in (1, 3, 10, len(data)):
        frames, found = Frames(MAX_FRAME_BYTES, MAX_HEAD_BYTES), []
        for at in range(0, len(data), size):
            whole, there = frames.take(data[at : at + size])
            found += [whole[start:stop] for _, _, _, start, stop in there]
        assert found == [data[:17], block, data[17 + len(block) :]]
    with pytest.raises(Malformed):
        endless = Frames(MAX_FRAME_BYTES, 1000)
        for _ in range(200):
            endless.take(frame(HEADERS if not endless.waiting else CONTINUATION, 0, 1, b""))


@pytest.mark.parametrize("sentence", ["short", "x" * 126, "y" * 127, "100 % of é\n" + "z" * 400])
def test_a_refusal_is_read_by_any_decoder_and_leaves_its_table_as_it_was(sentence: str) -> None:
    for begun in (False, True):
        answer = Refused(Status.INVALID_ARGUMENT, sentence).answer(5, begun=begun, ended=False)
        data, [headers, reset] = Frames(MAX_FRAME_BYTES, MAX_HEAD_BYTES).take(answer)
        assert headers[:3] == (HEADERS, END_HEADERS | END_STREAM, 5)
        assert reset[0] == RST_STREAM
        decoder = hpack.Decoder()
        block = data[headers[3] + 9 : headers[4]]
        read = {name.decode(): value.decode() for name, value in decoder.decode(block, raw=True)}
        assert read["grpc-status"] == "3"
        assert unquote(read["grpc-message"]) == sentence
        assert (":status" in read, "content-type" in read) == (not begun, not begun)
        assert not decoder.header_table.dynamic_entries


class FakeTransport:
    """Keeps what is written to the caller or to the server."""

    def __init__(self) -> None:
        self.written, self.closed, self.aborted, self.reads = b"", False, False, True

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def whole(self) -> list[tuple[int, int, int, bytes]]:
        """Kinds, flags, streams and payloads of what was written since the last time."""
        data, frames = Frames(2**24 + HEAD.size, 2**24).take(self.written)
        self.written = b""
        return [
            (kind, flags, stream, data[place + HEAD.size : stop])
            for kind, flags, stream, place, stop in frames
        ]

    def frames(self) -> list[tuple[int, int]]:
        """Their kinds and streams."""
        return [(kind, stream) for kind, _, stream, _ in self.whole()]


class FakeServer(FakeLoop):
    """A loop whose clock the test sets, in which each connection to the server is there at once, or none is."""

    def __init__(self) -> None:
        super().__init__()
        self.is_there = True
        self.opened = 0

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        with pytest.raises(StopIteration):
            coroutine.send(None)

    async def create_unix_connection(
        self, protocol: Callable[[], Line], path: str
    ) -> tuple[FakeTransport, Line]:
        if not self.is_there:
            raise ConnectionRefusedError
        self.opened += 1
        self.line, self.transport = protocol(), FakeTransport()
        self.line.connection_made(cast(Any, self.transport))
        self.transport.written = b""
        return self.transport, self.line

    def says(self, *frames: bytes) -> None:
        self.line.data_received(b"".join(frames))


CALL = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a/B"), (b":authority", b"door")]


def opening(number: int, *more: tuple[bytes, bytes], flags: int = 0) -> bytes:
    """The headers of a new call."""
    block = b"".join(literal(*header) for header in (*CALL, *more))
    return frame(HEADERS, END_HEADERS | flags, number, block)


OK = b"\x88"
LAST = END_HEADERS | END_STREAM
ASKS = message(inference(id="asked").SerializeToString())
OTHER = message(b"is it ready")
BAD = message(classes().SerializeToString())


class Caller:
    """One connection to the door, by hand; others of the same callers share the one to the server."""

    def __init__(self, beside: "Caller | None" = None, **limits: Any) -> None:
        self.loop: FakeServer = FakeServer() if beside is None else beside.loop
        self.callers: Callers = Callers(cast(Any, self.loop), **limits) if beside is None else beside.callers
        self.upstream: Upstream = Upstream(self.callers, "grpc:1") if beside is None else beside.upstream
        self.connection, self.transport = Connection(self.callers, self.upstream), FakeTransport()
        self.connection.connection_made(cast(Any, self.transport))
        self.connection.data_received(PREFACE)
        assert self.transport.frames() == [(SETTINGS, 0), (WINDOW_UPDATE, 0)]

    def asks(self, stream: int, *parts: bytes, end: bool = False, **headers: bytes) -> None:
        """In a frame a part; with `end` the last of them ends the call."""
        new = stream > self.connection._last_stream
        more = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
        frames = [opening(stream, *more)] if new else []
        for place, part in enumerate(parts):
            frames.append(frame(DATA, END_STREAM if end and place == len(parts) - 1 else 0, stream, part))
        self.connection.data_received(b"".join(frames))

    def leaves(self, stream: int) -> None:
        self.connection.data_received(frame(RST_STREAM, 0, stream, bytes(4)))

    def told(self) -> list[tuple[int, int, int, bytes]]:
        return self.transport.whole()

    def passed(self) -> list[tuple[int, int]]:
        """What the server was sent since the last time."""
        return self.loop.transport.frames()


def status_of(told: list[tuple[int, int, int, bytes]]) -> tuple[int, str]:
    """The one refusal that the caller was told."""
    [block] = [payload for kind, flags, _, payload in told if kind == HEADERS and flags & END_STREAM]
    read = {name.decode(): value.decode() for name, value in hpack.Decoder().decode(block, raw=True)}
    return int(read["grpc-status"]), unquote(read["grpc-message"])


def test_the_server_has_nothing_of_a_call_before_its_message_is_whole() -> None:
    caller = Caller()
    caller.asks(1, ASKS[:-1])
    assert caller.loop.opened == 0
    caller.asks(1, ASKS[-1:], end=True)
    headers, sent = caller.loop.transport.whole()
    assert headers[:3] == (HEADERS, END_HEADERS, 1)
    assert sent == (DATA, END_STREAM, 1, ASKS)


def test_the_server_is_told_no_deadline_and_nothing_of_who_left() -> None:
    caller = Caller()
    caller.asks(1, ASKS, end=True, grpc_timeout=b"20m", request_id=b"seven", some_bin=b"AA")
    (_, _, _, block), _ = caller.loop.transport.whole()
    assert hpack.Decoder().decode(block, raw=True) == [*CALL, (b"request-id", b"seven")]
    caller.asks(3, ASKS)
    assert caller.passed() == [(HEADERS, 3), (DATA, 3)]
    caller.leaves(1)
    caller.leaves(3)
    assert caller.loop.transport.whole() == [(DATA, END_STREAM, 3, b"")]
    caller.asks(5, ASKS)
    caller.connection.connection_lost(None)
    assert caller.passed() == [(HEADERS, 5), (DATA, 5), (DATA, 5)]
    assert not caller.loop.transport.closed
    assert caller.callers.inferences == 3  # which the server works on as before
    for number in (1, 3, 5):
        caller.loop.says(frame(HEADERS, END_HEADERS, number, OK), frame(DATA, 0, number, b"answer"))
        caller.loop.says(frame(HEADERS, LAST, number, literal(b"grpc-status", b"0")))
    assert (caller.callers.inferences, caller.callers.held, caller.told()) == (0, 0, [])
    assert caller.loop.line.streams == {}


def test_a_deadline_that_passes_while_the_call_waits_is_told_and_the_server_never_has_it() -> None:
    caller = Caller(max_inferences=2)
    caller.callers._turns._at_once = 1
    caller.asks(1, ASKS, end=True)
    caller.asks(3, ASKS, end=True, grpc_timeout=b"20m")
    assert caller.passed() == [(HEADERS, 1), (DATA, 1)]
    caller.loop.now = 0.03
    caller.loop.says(frame(DATA, 0, 1, b"answer"))
    assert status_of(caller.told()) == (4, "the deadline passed before the answer came")
    assert (caller.callers.inferences, caller.passed()) == (0, [])
    caller.asks(5, ASKS, end=True, grpc_timeout=b"20m")
    assert caller.passed() == [(HEADERS, 3), (DATA, 3)]
    caller.loop.now = 1.0
    caller.callers.look()
    assert status_of(caller.told())[0] == Status.DEADLINE_EXCEEDED
    assert (caller.callers.inferences, caller.passed()) == (1, [])
    caller.asks(7, ASKS, grpc_timeout=b"soon")
    assert status_of(caller.told())[0] == Status.INVALID_ARGUMENT


def test_after_a_refusal_the_server_is_told_the_end_and_what_it_says_reaches_nobody() -> None:
    caller = Caller()
    caller.asks(1, OTHER, BAD)
    assert caller.loop.transport.whole()[1:] == [(DATA, 0, 1, OTHER), (DATA, END_STREAM, 1, b"")]
    told = caller.told()
    assert status_of(told) == (Status.INVALID_ARGUMENT, CLASSES)
    assert told[-1][:3] == (RST_STREAM, 0, 1)  # as the caller has not ended its part
    caller.loop.says(
        frame(HEADERS, END_HEADERS, 1, OK), frame(DATA, 0, 1, b"late"), frame(RST_STREAM, 0, 1, bytes(4))
    )
    assert caller.told() == []
    assert not caller.connection.busy


def test_what_a_refused_or_unknown_call_still_sends_is_dropped_and_its_room_given_back() -> None:
    caller = Caller()
    caller.asks(1, BAD)
    assert status_of(caller.told())[1] == CLASSES
    part = bytes(2**22)
    for _ in range(2**30 // len(part)):
        caller.connection.data_received(frame(DATA, 0, 1, part))
    [(kind, _, stream, size)] = caller.told()
    assert (kind, stream) == (WINDOW_UPDATE, 0)
    assert int.from_bytes(size) >= 2**30
    assert (caller.loop.opened, caller.callers.held) == (0, 0)


def test_numbers_of_calls_are_the_doors_own_and_answers_find_their_callers() -> None:
    one = Caller()
    other = Caller(one)
    other.asks(5, OTHER, end=True)
    one.asks(1, OTHER, end=True)
    assert one.passed() == [(HEADERS, 1), (DATA, 1), (HEADERS, 3), (DATA, 3)]
    one.loop.says(frame(HEADERS, END_HEADERS, 3, b"\x20" + OK), frame(DATA, 0, 3, b"one"))
    one.loop.says(frame(DATA, 0, 1, b"other"))
    assert one.told() == [(HEADERS, END_HEADERS, 1, OK), (DATA, 0, 1, b"one")]
    assert other.told() == [(DATA, 0, 5, b"other")]


def test_an_answer_waits_for_room_in_the_callers_windows_and_then_comes_whole() -> None:
    caller = Caller()
    settings = frame(SETTINGS, 0, 0, b"\0\4" + (10).to_bytes(4, "big"))  # windows of 10 bytes
    caller.connection.data_received(settings)
    caller.asks(1, OTHER, end=True)
    caller.told()
    trailers = literal(b"grpc-status", b"0")
    caller.loop.says(frame(DATA, 0, 1, b"0123456789abcdef"), frame(HEADERS, LAST, 1, trailers))
    assert caller.told() == [(DATA, 0, 1, b"0123456789")]
    assert caller.callers.held == 6
    caller.connection.data_received(frame(WINDOW_UPDATE, 0, 1, (4).to_bytes(4, "big")))
    assert caller.told() == [(DATA, 0, 1, b"abcd")]
    caller.connection.data_received(frame(SETTINGS, 0, 0, b"\0\4" + (12).to_bytes(4, "big")))
    assert caller.told() == [(DATA, 0, 1, b"ef"), (HEADERS, LAST, 1, trailers), (SETTINGS, ACK, 0, b"")]
    assert caller.callers.held == 0


def test_answers_that_wait_cost_no_time_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4,000 calls of a caller who opens no window each further frame looks at one."""
    caller, calls = Caller(), 4000
    caller.connection.data_received(frame(SETTINGS, 0, 0, b"\0\4" + bytes(4)))
    outlet, pieces = caller.connection.outlet, 0
    push_piece = outlet._push_piece

    def counted(flow: Flow) -> None:
        nonlocal pieces
        pieces += 1
        push_piece(flow)

    monkeypatch.setattr(outlet, "_push_piece", counted)
    for place in range(calls):
        caller.asks(2 * place + 1, OTHER, end=True)
        caller.loop.says(frame(DATA, 0, 2 * place + 1, b"answer"))
    caller.told()
    for place in range(calls):
        caller.connection.data_received(frame(WINDOW_UPDATE, 0, 2 * place + 1, (6).to_bytes(4, "big")))
    assert caller.told() == [(DATA, 0, 2 * place + 1, b"answer") for place in range(calls)]
    assert pieces == calls


def test_a_large_message_goes_in_pieces_as_the_server_has_room_and_others_pass_it() -> None:
    caller = Caller()
    large = message(bytes(200_000))
    caller.asks(1, large, end=True)
    sent = caller.loop.transport.whole()[1:]
    assert sum(len(payload) for _, _, _, payload in sent) == 65_535
    assert max(len(payload) for _, _, _, payload in sent) == 2**14
    caller.loop.says(frame(SETTINGS, 0, 0, b"\0\5" + (2**22).to_bytes(4, "big")))
    caller.asks(3, OTHER, end=True)
    caller.loop.says(frame(WINDOW_UPDATE, 0, 0, (2**20).to_bytes(4, "big")))
    sent += caller.loop.transport.whole()
    assert (DATA, END_STREAM, 3, OTHER) in sent
    caller.loop.says(frame(WINDOW_UPDATE, 0, 1, (2**20).to_bytes(4, "big")))
    sent += caller.loop.transport.whole()
    assert b"".join(payload for kind, _, number, payload in sent if (kind, number) == (DATA, 1)) == large
    assert [flags for kind, flags, number, _ in sent if (kind, number) == (DATA, 1)].count(END_STREAM) == 1


def test_pings_are_answered_and_a_smaller_table_of_headers_is_heeded() -> None:
    caller = Caller()
    caller.connection.data_received(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"87654321"))
    assert caller.told() == [(PING, ACK, 0, b"12345678")]
    caller.connection.data_received(frame(SETTINGS, 0, 0, b"\0\1" + bytes(4)))
    caller.told()
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    for number in (1, 3):
        caller.asks(number, BAD)
        block = next(payload for kind, _, _, payload in caller.told() if kind == HEADERS)
        assert (b"grpc-status", b"3") in list(decoder.decode(block, raw=True))
        assert block.startswith(b"\x20") == (number == 1)


def test_where_the_server_goes_its_callers_are_told_and_the_next_call_finds_it_again() -> None:
    caller = Caller()
    caller.asks(1, ASKS, end=True)
    caller.loop.is_there = False
    caller.loop.line.connection_lost(None)
    sentence = "the server is not there at the moment; try again"
    assert status_of(caller.told()) == (Status.UNAVAILABLE, sentence)
    caller.asks(3, ASKS, end=True)
    assert status_of(caller.told()) == (Status.UNAVAILABLE, sentence)
    assert (caller.callers.inferences, caller.callers.held, caller.connection.busy) == (0, 0, False)
    caller.loop.is_there = True
    caller.asks(5, ASKS, end=True)
    assert caller.passed() == [(HEADERS, 1), (DATA, 1)]


def test_a_server_that_asks_for_another_connection_ends_its_calls_on_the_first() -> None:
    caller = Caller()
    caller.asks(1, OTHER)
    first = caller.loop.line
    caller.loop.says(frame(GOAWAY, 0, 0, bytes(8)))
    caller.asks(3, OTHER)
    assert (caller.loop.opened, caller.passed()) == (2, [(HEADERS, 1), (DATA, 1)])
    first.data_received(frame(DATA, 0, 1, b"answer"))
    assert caller.told() == [(DATA, 0, 1, b"answer")]


def test_a_message_that_trickles_is_refused_and_an_idle_call_is_not() -> None:
    caller = Caller()
    caller.asks(1, OTHER)
    caller.asks(3, message(b"slow")[:-1])
    caller.loop.now = MAX_SECONDS + 1
    caller.callers.look()
    assert status_of(caller.told()) == (4, "the message took more than 30 s to arrive")
    caller.connection.data_received(b"\0")
    caller.callers.look()
    assert not caller.transport.closed
    caller.loop.now = 2 * MAX_SECONDS + 2
    caller.callers.look()
    assert (caller.transport.closed, caller.transport.aborted) == (True, False)
    caller.callers.look()
    caller.loop.now += MAX_SECONDS
    caller.callers.look()
    assert caller.transport.aborted  # what was written to it was never read


def test_a_connection_without_a_preface_is_closed_in_time() -> None:
    loop = FakeServer()
    callers = Callers(cast(Any, loop))
    caller, transport = Connection(callers, Upstream(callers, "grpc:1")), FakeTransport()
    caller.connection_made(cast(Any, transport))
    for place in range(10):
        caller.data_received(PREFACE[place : place + 1])
        loop.now += MAX_SECONDS / 9
    callers.look()
    assert transport.closed


def test_who_holds_most_is_refused_where_all_hold_too_much() -> None:
    greedy = Caller()
    modest = Caller(greedy)
    part = message(bytes(MAX_BODY_BYTES))[:-1]
    pieces = [part[at : at + 2**20] for at in range(0, len(part), 2**20)]
    streams = range(1, 2 * MAX_HELD_BYTES // MAX_BODY_BYTES + 2, 2)
    for stream in streams:
        assert greedy.told() == [] or stream > 1
        greedy.asks(stream, *pieces)
    assert "too many large requests" in status_of(greedy.told())[1]
    modest.asks(1, OTHER)
    assert modest.passed() == [(HEADERS, 1), (DATA, 1)]
    for caller in (greedy, modest):
        caller.connection.connection_lost(None)
    assert greedy.callers.held == 0


def test_who_does_not_read_is_not_read_and_what_waits_for_him_counts() -> None:
    caller = Caller()
    caller.asks(1, OTHER, end=True)
    held = caller.callers.held
    caller.connection.pause_writing()
    assert not caller.transport.reads
    caller.loop.says(frame(DATA, 0, 1, bytes(1000)))
    assert (caller.told(), caller.callers.held) == ([], held - len(OTHER) + 1000)
    caller.connection.resume_writing()
    assert caller.transport.reads
    assert caller.told() == [(DATA, 0, 1, bytes(1000))]
    caller.loop.line.pause_writing()
    caller.asks(3, OTHER, end=True)
    assert caller.passed()[-1:] == [(HEADERS, 3)]
    caller.loop.line.resume_writing()
    assert caller.passed() == [(DATA, 3)]


def test_calls_that_end_in_any_way_are_held_no_more() -> None:
    caller = Caller()
    for stream in (1, 3, 5, 7):
        caller.asks(stream, OTHER, message(b"half")[:-1])
    assert caller.callers.held > 0
    caller.leaves(1)
    caller.loop.says(frame(RST_STREAM, 0, 3, bytes(4)))
    caller.loop.says(frame(HEADERS, LAST, 5, b""))
    assert [kind for kind, _, _, _ in caller.told()] == [RST_STREAM, HEADERS, RST_STREAM]
    caller.connection.data_received(frame(HEADERS, LAST, 7, b""))  # trailers, which nobody sends
    assert status_of(caller.told())[0] == Status.UNIMPLEMENTED
    assert (caller.callers.held, caller.connection.busy) == (0, False)


def test_one_inference_more_than_may_be_under_way_is_refused_and_an_end_of_any_kind_makes_room() -> None:
    caller = Caller(max_inferences=3)
    other = Caller(caller)
    for stream in (1, 3, 5):
        caller.asks(stream, ASKS)
    caller.passed()
    other.asks(1, ASKS[:-1], ASKS[-1:])
    assert status_of(other.told()) == (Status.UNAVAILABLE, OVERLOADED)
    other.asks(3, OTHER)
    assert other.passed() == [(HEADERS, 7), (DATA, 7)]  # the server knows nothing of what was refused
    caller.loop.says(frame(DATA, 0, 1, b"answer"))
    assert caller.callers.inferences == 2
    caller.asks(1, ASKS)  # again on the same stream
    assert caller.callers.inferences == 3
    caller.loop.says(frame(HEADERS, LAST, 3, b""), frame(RST_STREAM, 0, 5, bytes(4)))
    assert caller.callers.inferences == 1
    other.asks(5, ASKS)
    assert caller.callers.inferences == 2
    caller.loop.line.connection_lost(None)
    for each in (caller, other):
        each.connection.connection_lost(None)
    assert (caller.callers.inferences, caller.callers.held) == (0, 0)


def test_what_callers_ask_while_they_are_held_waits_and_goes_on_in_order(tmp_path: Path) -> None:
    hold = hold_file(str(tmp_path / "grpc:1"))
    caller = Caller(grpc_file=str(tmp_path / "grpc:1"))
    caller.asks(1, ASKS)
    caller.passed()
    begin(hold)
    caller.loop.now += 0.01
    caller.connection.data_received(opening(3) + frame(DATA, 0, 3, ASKS))
    caller.connection.data_received(opening(5) + frame(DATA, 0, 5, ASKS))
    assert (caller.passed(), caller.transport.reads) == ([], False)
    assert not idle_file(hold).exists()
    caller.loop.says(frame(HEADERS, LAST, 1, b""))
    assert idle_file(hold).exists()
    (go_on,) = caller.loop.later
    go_on()
    assert caller.passed() == []
    left_at = time.monotonic() - LONGEST_S
    os.utime(hold, (left_at, left_at))  # by who was killed
    caller.loop.now += 0.01
    go_on()
    assert caller.passed() == [(HEADERS, 3), (DATA, 3), (HEADERS, 5), (DATA, 5)]
    assert caller.transport.reads


def test_a_door_that_drains_sends_callers_away_and_ends_once_nothing_is_under_way(tmp_path: Path) -> None:
    grpc_file = str(tmp_path / "grpc:1")
    caller, ready = Caller(grpc_file=grpc_file), message(b"\x08\x01")
    early = Connection(caller.callers, caller.upstream)
    early.connection_made(cast(Any, FakeTransport()))
    assert not caller.callers.drain()
    for number in (1, 3, 5):
        caller.asks(number, OTHER, end=True)
    caller.loop.says(frame(DATA, 0, 1, ready))
    assert caller.told() == [(DATA, 0, 1, ready)]
    drain_file(grpc_file).touch()
    assert not caller.callers.drain()
    assert caller.told() == [(GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4))]
    caller.loop.says(frame(DATA, 0, 3, ready), frame(DATA, 0, 5, ready + ready))
    assert caller.told() == [(DATA, 0, 3, message(b"\x08\0")), (DATA, 0, 5, ready + ready)]
    caller.loop.now += QUIET_S
    assert not caller.callers.drain()
    caller.loop.says(*(frame(HEADERS, LAST, number, b"") for number in (1, 3, 5)))
    caller.told()
    assert caller.callers.drain()
    assert caller.told()[-1] == (GOAWAY, 0, 0, b"\0\0\0\5" + bytes(4))
    assert caller.transport.closed


def test_a_door_that_dies_or_is_stopped_is_opened_again_for_grpc_too(
    tiny_repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    certificate, key = written(tmp_path, issued("localhost"))
    repository = copied(tiny_repository, tmp_path / "repository")
    options = ServeOptions("127.0.0.1", 0, 0, 0, grpc_tls_cert=certificate, grpc_tls_key=key)
    heard: list[str] = []
    with running_server(repository, options, heard.append) as state:
        for number, signal_ in enumerate((signal.SIGKILL, signal.SIGSTOP)):
            door = door_of(state)
            os.kill(door.pid, signal_)
            assert eventually(lambda: len(heard) > number)  # noqa: B023
            with Client(f"localhost:{state.grpc_port}", tls=certificate, timeout=60) as client:
                assert client.recommend(ids[:2]).model_version == 1
        with grpc.secure_channel(
            f"localhost:{state.grpc_port}", grpc.ssl_channel_credentials(certificate.read_bytes())
        ) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError, match="'classification' of an output is not taken"):
                stub.ModelInfer(classes(), timeout=30)
            assert stub.ModelInfer(inference(), timeout=30).outputs
    assert heard == ["door: it ended with code -9; it is opened again"] * 2
