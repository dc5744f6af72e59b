"""Turns: who waits at the door for the server, and what the server is never sent."""

import http.client
import socket
from collections.abc import Callable

import grpc
import pytest
from conftest import eventually
from test_door import INFER, body_of, item_ids
from test_overload import Held, held  # noqa: F401
from tritonclient.grpc import service_pb2, service_pb2_grpc

from footfall.contract import ENSEMBLE, MAX_INFERENCES
from footfall_serving.door.limits import AT_ONCE
from footfall_serving.door.turns import PROBE_S, Turn, Turns
from footfall_serving.repository_api import RepositoryApi

GONE = 20


class Room:
    """Turns, and the names of those that had to wait and were sent then."""

    def __init__(self, most: int, at_once: int) -> None:
        self.now = 1.0
        self.turns = Turns(most, at_once, lambda: self.now)
        self.sent: list[str] = []

    def take(self, name: str) -> Turn:
        turn = self.turns.take(self._sends(name))
        assert turn is not None
        return turn

    def _sends(self, name: str) -> Callable[[], None]:
        return lambda: self.sent.append(name)


def test_the_server_has_so_many_at_once_and_the_others_follow_in_order() -> None:
    room = Room(most=4, at_once=2)
    turns = [room.take(name) for name in "abcd"]
    assert [turn.waits for turn in turns] == [False, False, True, True]
    assert room.turns.take(lambda: None) is None
    room.turns.end(turns[1], answered=True)
    room.turns.end(turns[0], answered=False)
    assert room.sent == ["c", "d"]
    assert room.turns.wanted == 2


def test_who_leaves_before_its_turn_is_never_sent() -> None:
    room = Room(most=3, at_once=1)
    first, second, _ = [room.take(name) for name in "abc"]
    room.turns.leave(second)
    assert room.take("d").waits
    room.turns.end(first, answered=True)
    assert room.sent == ["c"]


def test_who_leaves_later_is_counted_until_a_later_one_is_answered() -> None:
    room = Room(most=9, at_once=3)
    first, second, third = [room.take(name) for name in "abc"]
    fourth = room.take("d")
    room.turns.leave(first)
    room.turns.leave(third)
    assert room.sent == []
    assert room.turns.wanted == 2
    room.turns.end(second, answered=True)  # tells of the first, and not of the third
    assert room.sent == ["d"]
    assert not room.take("e").waits
    assert room.take("f").waits
    room.turns.end(fourth, answered=False)  # a refusal tells of nobody else
    assert room.sent == ["d", "f"]
    assert room.take("g").waits


def test_where_all_have_left_one_more_is_sent_and_its_answer_tells_of_them() -> None:
    room = Room(most=2, at_once=2)
    for name in "ab":
        room.turns.leave(room.take(name))
    assert room.turns.wanted == 0
    assert room.turns.take(lambda: None) is None
    room.now += PROBE_S
    probe = room.take("c")
    assert not probe.waits
    assert room.turns.take(lambda: None) is None
    room.turns.end(probe, answered=True)
    assert not any(room.take(name).waits for name in "de")


def test_who_waits_behind_all_that_left_is_sent_in_time() -> None:
    room = Room(most=3, at_once=1)
    first, second, _ = [room.take(name) for name in "abc"]
    room.turns.leave(first)
    assert room.sent == []
    room.now += PROBE_S
    room.turns.go_on()
    assert room.sent == ["b"]
    room.turns.leave(second)
    room.turns.go_on()
    assert room.sent == ["b"]  # however many leave, no more than one in that time is sent


@pytest.mark.parametrize("held", [MAX_INFERENCES], indirect=True)
def test_what_a_caller_who_has_gone_asked_is_not_computed(held: Held, ids: list[str]) -> None:  # noqa: F811
    """Its deadline has passed, it cancelled, or it closed its connection; the server counts what it computed."""
    server = held.server
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
    request.inputs.add(name="item_id", datatype="BYTES", shape=[1, 0])
    request.raw_input_contents.append(b"")
    with grpc.insecure_channel(server.grpc_url) as channel, RepositoryApi(server) as api:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        before = api.count_answers(ENSEMBLE)
        patient = [ask.future(request, timeout=100) for _ in range(AT_ONCE)]
        for call in [ask.future(request, timeout=100) for _ in range(GONE)]:
            call.cancel()
        hasty = [ask.future(request, timeout=0.5) for _ in range(GONE)]
        assert {call.exception().code() for call in hasty} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        for _ in range(GONE):
            line = http.client.HTTPConnection(server.host, server.http_port, timeout=30)
            line.request("POST", INFER, body_of(item_ids(ids[:2])))
            line.sock.shutdown(socket.SHUT_WR)
            assert line.sock.recv(1) == b""  # the door has noticed
            line.close()
        last = ask.future(request, timeout=100)
        held.hold.unlink()
        assert all(call.result() for call in (*patient, last))
        assert eventually(lambda: api.count_answers(ENSEMBLE) > before + AT_ONCE)
        # Of one kind of those who have gone there are GONE; the supervisor asks a few times too.
        assert api.count_answers(ENSEMBLE) - before - AT_ONCE - 1 < GONE


@pytest.mark.soak
@pytest.mark.parametrize("held", [MAX_INFERENCES], indirect=True)
def test_callers_of_short_deadlines_do_not_fill_the_servers_queue(held: Held) -> None:  # noqa: F811
    server = held.server
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
    request.inputs.add(name="item_id", datatype="BYTES", shape=[1, 0])
    request.raw_input_contents.append(b"")
    rounds, deadline_s = 6, 0.3
    with grpc.insecure_channel(server.grpc_url) as channel, RepositoryApi(server) as api:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        before = api.count_answers(ENSEMBLE)
        for _ in range(rounds):
            for call in [ask.future(request, timeout=deadline_s) for _ in range(AT_ONCE)]:
                assert call.exception() is not None
        held.hold.unlink()
        assert eventually(lambda: not ask_fails(ask, request))
        computed = api.count_answers(ENSEMBLE) - before
    # Beside AT_ONCE one each PROBE_S while all had left, and those of the end.
    assert AT_ONCE < computed < 2 * AT_ONCE


def ask_fails(ask: Callable[..., object], request: service_pb2.ModelInferRequest) -> bool:
    try:
        ask(request, timeout=30)
    except grpc.RpcError:
        return True
    return False
