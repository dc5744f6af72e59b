"""The door before the server's gRPC: what it lets through, what it refuses, and that nobody else notices."""

import json
import os
import queue
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
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
from footfall_serving.door.grpc.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    Frames,
    Malformed,
    frame,
)
from footfall_serving.door.grpc.inference import check
from footfall_serving.door.grpc.line import Line
from footfall_serving.door.grpc.refused import Refused, Status
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

    def frames(self) -> list[tuple[int, int]]:
        """Kinds and streams of what was written since the last time."""
        _, frames = Frames(2**24, 2**24).take(self.written.removeprefix(PREFACE))
        self.written = b""
        return [(kind, stream) for kind, _, stream, _, _ in frames]


class FakeServer(FakeLoop):
    """A loop whose clock the test sets, in which each connection to the server is there at once."""

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        with pytest.raises(StopIteration):
            coroutine.send(None)

    async def create_unix_connection(
        self, protocol: Callable[[], Line], path: str
    ) -> tuple[FakeTransport, Line]:
        line, transport = protocol(), FakeTransport()
        line.connection_made(cast(Any, transport))
        self.line, self.transport = line, transport
        return transport, line


@dataclass
class Pair:
    """A caller's connection and the server's, by hand."""

    callers: Callers
    loop: FakeServer
    caller: Connection
    transport: FakeTransport

    def asks(self, stream: int, *parts: bytes) -> None:
        headers = frame(HEADERS, END_HEADERS, stream, b"") if stream > self.caller._last_stream else b""
        self.caller.data_received(headers + b"".join(frame(DATA, 0, stream, part) for part in parts))

    def pongs(self, stream: int) -> bytes:
        """The server has read all that it was sent; returns what the caller is told."""
        self.transport.written = b""
        self.loop.line.data_received(frame(PING, ACK, 0, b"door" + stream.to_bytes(4, "big")))
        return self.transport.written


def pair(callers: Callers | None = None) -> Pair:
    loop = FakeServer()
    callers = callers or Callers(cast(Any, loop))
    callers.loop = cast(Any, loop)
    caller, transport = Connection(callers, "grpc:1"), FakeTransport()
    caller.connection_made(cast(Any, transport))
    caller.data_received(PREFACE)
    loop.transport.frames()
    return Pair(callers, loop, caller, transport)


BAD = message(classes().SerializeToString())


def test_a_refusal_comes_after_all_that_the_server_still_says_of_the_call() -> None:
    door = pair()
    door.asks(1, message(b"good"), BAD)
    assert door.loop.transport.frames() == [(HEADERS, 1), (DATA, 1), (RST_STREAM, 1), (PING, 0)]
    assert door.transport.frames() == [(WINDOW_UPDATE, 0)]
    late = frame(HEADERS, END_HEADERS, 1, b"") + frame(DATA, 0, 1, b"answer")
    door.loop.line.data_received(late)
    assert door.transport.written == late
    assert door.pongs(1) == Refused(Status.INVALID_ARGUMENT, CLASSES).answer(1, begun=True, ended=False)
    assert not door.caller.busy


def test_what_the_server_says_of_a_call_that_is_cancelled_reaches_nobody() -> None:
    door = pair()
    door.asks(1, BAD)
    door.transport.written = b""
    stray = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x07:status\x03200")
    stray += frame(RST_STREAM, 0, 1, bytes(4))
    door.loop.line.data_received(stray)
    assert door.transport.written == b""
    assert door.pongs(1) == Refused(Status.INVALID_ARGUMENT, CLASSES).answer(1, begun=False, ended=False)
    door.transport.written = b""
    door.loop.line.data_received(stray)
    assert door.transport.written == b""


def test_where_the_server_ends_the_call_meanwhile_that_is_the_answer() -> None:
    door = pair()
    door.asks(1, BAD)
    last = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88")
    door.loop.line.data_received(last)
    assert door.transport.written.endswith(last)
    assert door.pongs(1) == b""


def test_what_a_refused_or_unknown_call_still_sends_is_swallowed_and_its_room_given_back() -> None:
    door = pair()
    door.asks(1, BAD, b"more", b"")
    door.caller.data_received(frame(DATA, 0, 7, b"unknown"))
    assert [kind for kind, _ in door.loop.transport.frames()] == [HEADERS, RST_STREAM, PING]
    given = [int.from_bytes(door.transport.written[at + 9 : at + 13]) for at in (0, 13)]
    assert given == [len(BAD) + len(b"more"), len(b"unknown")]
    assert len(door.transport.written) == 26


def test_a_message_that_trickles_is_refused_and_an_idle_call_is_not() -> None:
    door = pair()
    door.asks(1, message(b"good"))
    door.asks(3, message(b"slow")[:-1])
    door.loop.transport.frames()
    door.loop.now = MAX_SECONDS + 1
    door.callers.look()
    assert door.loop.transport.frames() == [(RST_STREAM, 3), (PING, 0)]
    assert b"took more than 30 s to arrive" in door.pongs(3)
    door.caller.data_received(b"\0")
    door.callers.look()
    assert not door.transport.closed
    door.loop.now = 2 * MAX_SECONDS + 2
    door.callers.look()
    assert (door.transport.closed, door.transport.aborted) == (True, False)
    door.loop.now += MAX_SECONDS
    door.callers.look()
    assert door.transport.aborted  # what was written to it was never read


def test_a_connection_without_a_preface_is_closed_in_time() -> None:
    loop = FakeServer()
    callers = Callers(cast(Any, loop))
    caller, transport = Connection(callers, "grpc:1"), FakeTransport()
    caller.connection_made(cast(Any, transport))
    for place in range(10):
        caller.data_received(PREFACE[place : place + 1])
        loop.now += MAX_SECONDS / 9
    callers.look()
    assert transport.closed


def test_who_holds_most_is_refused_where_all_hold_too_much() -> None:
    callers = Callers(cast(Any, FakeLoop()))
    greedy, modest = pair(callers), pair(callers)
    part = message(bytes(MAX_BODY_BYTES))[:-1]
    pieces = [part[at : at + 2**20] for at in range(0, len(part), 2**20)]
    streams = range(1, 2 * MAX_HELD_BYTES // MAX_BODY_BYTES + 2, 2)
    for stream in streams:
        greedy.asks(stream, *pieces)
    assert greedy.loop.transport.frames()[-2:] == [(RST_STREAM, streams[-1]), (PING, 0)]
    assert b"too many large requests" in greedy.pongs(streams[-1])
    modest.asks(1, message(b"good"))
    assert modest.loop.transport.frames() == [(HEADERS, 1), (DATA, 1)]
    for connection in (greedy, modest):
        connection.caller.connection_lost(None)
    assert callers.held == 0


def test_who_does_not_read_is_not_read_and_the_server_neither() -> None:
    door = pair()
    assert (door.transport.reads, door.loop.transport.reads) == (True, True)
    door.loop.line.pause_writing()
    assert (door.transport.reads, door.loop.transport.reads) == (False, True)
    door.caller.pause_writing()
    door.loop.line.resume_writing()
    assert (door.transport.reads, door.loop.transport.reads) == (False, False)
    door.caller.resume_writing()
    assert (door.transport.reads, door.loop.transport.reads) == (True, True)


def test_calls_that_end_in_any_way_are_held_no_more() -> None:
    door = pair()
    for stream in (1, 3, 5):
        door.asks(stream, message(b"good"), message(b"half")[:-1])
    assert door.callers.held > 0
    door.caller.data_received(frame(RST_STREAM, 0, 1, bytes(4)))
    for last in (frame(RST_STREAM, 0, 3, bytes(4)), frame(HEADERS, END_HEADERS | END_STREAM, 5, b"")):
        door.loop.line.data_received(last)
    assert (door.callers.held, door.caller.busy) == (0, False)


ASKED = inference()
ASKED.id = "asked"
ASKS = message(ASKED.SerializeToString())


def test_one_inference_more_than_may_be_under_way_is_refused_and_an_end_of_any_kind_makes_room() -> None:
    callers = Callers(cast(Any, FakeLoop()), max_inferences=3)
    door, other = pair(callers), pair(callers)
    for stream in (1, 3, 5):
        door.asks(stream, ASKS)
    other.asks(1, ASKS[:-1], ASKS[-1:])
    other.asks(3, message(b"is it ready"))
    assert other.loop.transport.frames() == [
        (HEADERS, 1),
        (DATA, 1),
        (RST_STREAM, 1),
        (PING, 0),
        *[(HEADERS, 3), (DATA, 3)],
    ]
    refused = Refused(Status.UNAVAILABLE, OVERLOADED)
    assert other.pongs(1) == refused.answer(1, begun=False, ended=False, name="asked")
    door.loop.line.data_received(frame(DATA, 0, 1, b"answer"))
    assert callers.inferences == 2
    door.asks(1, ASKS)  # again on the same stream
    assert callers.inferences == 3
    door.caller.data_received(frame(RST_STREAM, 0, 1, bytes(4)))
    door.loop.line.data_received(frame(HEADERS, END_HEADERS | END_STREAM, 3, b""))
    assert callers.inferences == 1
    other.asks(5, ASKS)
    assert callers.inferences == 2
    for connection in (door, other):
        connection.caller.connection_lost(None)
    assert (callers.inferences, callers.held) == (0, 0)


def test_what_callers_ask_while_they_are_held_waits_and_goes_on_in_order(tmp_path: Path) -> None:
    hold = hold_file(str(tmp_path / "grpc:1"))
    door = pair(Callers(cast(Any, FakeLoop()), grpc_file=str(tmp_path / "grpc:1")))
    door.asks(1, ASKS)
    door.loop.transport.frames()
    begin(hold)
    door.asks(3, ASKS)
    door.asks(5, ASKS)
    assert (door.loop.transport.frames(), door.transport.reads) == ([], False)
    assert not idle_file(hold).exists()
    door.loop.line.data_received(frame(HEADERS, END_HEADERS | END_STREAM, 1, b""))
    assert idle_file(hold).exists()
    (go_on,) = door.loop.later
    go_on()
    assert door.loop.transport.frames() == []
    left_at = time.monotonic() - LONGEST_S
    os.utime(hold, (left_at, left_at))  # by who was killed
    go_on()
    assert door.loop.transport.frames() == [(HEADERS, 3), (DATA, 3), (HEADERS, 5), (DATA, 5)]
    assert door.transport.reads


def test_a_door_that_drains_sends_callers_away_and_ends_once_nothing_is_under_way(tmp_path: Path) -> None:
    grpc_file = str(tmp_path / "grpc:1")
    callers = Callers(cast(Any, FakeLoop()), grpc_file=grpc_file)
    door, ready = pair(callers), message(b"\x08\x01")
    assert not callers.drain()
    door.loop.line.data_received(frame(DATA, 0, 1, ready))
    assert door.transport.written.endswith(ready)
    door.transport.written = b""
    drain_file(grpc_file).touch()
    assert not callers.drain()
    assert door.transport.written == frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4))
    door.asks(1, ASKS)
    assert door.loop.transport.frames() == [(HEADERS, 1), (DATA, 1)]
    door.transport.written = b""
    door.loop.line.data_received(frame(DATA, 0, 3, ready) + frame(DATA, 0, 3, ready + ready))
    assert door.transport.written == frame(DATA, 0, 3, message(b"\x08\0")) + frame(DATA, 0, 3, ready + ready)
    door.loop.now += QUIET_S
    assert not callers.drain()
    door.loop.line.data_received(frame(HEADERS, END_HEADERS | END_STREAM, 1, b""))
    door.transport.written = b""
    assert callers.drain()
    assert door.transport.written.endswith(frame(GOAWAY, 0, 0, b"\0\0\0\1" + bytes(4)))
    assert door.transport.closed


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
