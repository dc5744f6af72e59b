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
from footfall_serving.door.turns import Turn, Turns
from footfall_serving.repository_api import RepositoryApi

GONE = 20


class Room:
    """Turns, and the names of those that had to wait and were sent then; who is in `gone` waits no more."""

    def __init__(self, most: int, at_once: int) -> None:
        self.turns = Turns(most, at_once)
        self.sent: list[str] = []
        self.gone = ""

    def take(self, name: str) -> Turn:
        turn = self.turns.take(self._sends(name))
        assert turn is not None
        return turn

    def _sends(self, name: str) -> Callable[[], bool]:
        def send() -> bool:
            if name not in self.gone:
                self.sent.append(name)
            return name not in self.gone

        return send


def test_the_server_has_so_many_at_once_and_the_others_follow_in_order() -> None:
    room = Room(most=4, at_once=2)
    turns = [room.take(name) for name in "abcd"]
    assert [turn.waits for turn in turns] == [False, False, True, True]
    assert room.turns.take(lambda: True) is None
    room.turns.end(turns[1])
    room.turns.end(turns[0])
    assert room.sent == ["c", "d"]
    assert [turn.waits for turn in turns] == [False] * 4
    assert room.turns.under_way == 2


def test_who_leaves_before_its_turn_is_never_sent() -> None:
    room = Room(most=3, at_once=1)
    first, second, _ = [room.take(name) for name in "abc"]
    room.turns.leave(second)
    assert room.take("d").waits
    room.turns.end(first)
    assert room.sent == ["c"]


def test_where_nobody_waits_any_more_the_turn_is_the_next_ones() -> None:
    room = Room(most=5, at_once=1)
    first, *_ = [room.take(name) for name in "abcde"]
    room.gone = "bc"
    room.turns.end(first)
    assert room.sent == ["d"]
    assert room.turns.under_way == 2


@pytest.mark.parametrize("held", [MAX_INFERENCES], indirect=True)
def test_what_a_caller_who_has_gone_asked_is_not_computed(held: Held, ids: list[str]) -> None:  # noqa: F811
    """Its deadline has passed, it cancelled, or it closed its connection; the server counts what it computed."""
    server = held.server
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
    request.inputs.add(name="item_id", datatype="BYTES", shape=[1, 0])
    request.raw_input_contents.append(b"")
    with grpc.insecure_channel(server.grpc_url) as channel, RepositoryApi(server) as api:
        grpc.channel_ready_future(channel).result(timeout=100)  # calls that wait for it come in any order
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
        assert eventually(lambda: api.count_answers(ENSEMBLE) - before > AT_ONCE)
        computed = api.count_answers(ENSEMBLE) - before
    # The AT_ONCE of the first round, of whom all have left, and those of the end.
    assert computed < 2 * AT_ONCE


def ask_fails(ask: Callable[..., object], request: service_pb2.ModelInferRequest) -> bool:
    try:
        ask(request, timeout=30)
    except grpc.RpcError:
        return True
    return False
