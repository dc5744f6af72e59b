"""Requests drawn from the contract: who asks what may be asked is answered, anybody else refused in a sentence."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from conftest import post
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from test_fuzz import REFUSALS, unharmed  # noqa: F401
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from footfall.contract import DEFAULT_MAX_TOP_K, ENSEMBLE, MAX_ID_BYTES, REQUEST, UNKNOWN_TIME
from footfall_serving.state import ServerState

DTYPES = {"INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_}
EDGES = {
    "INT32": [0, 1, 20, DEFAULT_MAX_TOP_K, DEFAULT_MAX_TOP_K + 1, -1, 2**31 - 1, -(2**31)],
    "INT64": [0, 1_700_000_000_000, 1_700_000_000, UNKNOWN_TIME, 2**63 - 1, -1],
}
TIMES = 1_600_000_000_000, 1_800_000_000_000
Tensors = dict[str, list[Any]]


@st.composite
def requests(draw: DrawFn, ids: list[str]) -> Tensors:
    """Values by tensor, each of its kind, some left out; of every other request some are of a length or value that is
    not taken.
    """
    whole = draw(st.booleans())
    odd = st.one_of(st.text(max_size=8), st.just("é" * MAX_ID_BYTES), st.just("\0"), st.just(""))
    known: SearchStrategy[Any] = st.sampled_from(ids[:50])
    length = draw(st.integers(0, 30))
    asked: Tensors = {}
    for tensor in REQUEST:
        if tensor.name != "item_id" and draw(st.booleans()):
            continue
        values = {
            "BYTES": st.one_of(known, st.text(max_size=8)) if whole else st.one_of(known, odd),
            "BOOL": st.booleans(),
            "INT32": st.integers(1, DEFAULT_MAX_TOP_K),
            "INT64": st.one_of(st.integers(*TIMES), st.just(UNKNOWN_TIME)),
        }[tensor.data_type]
        if not whole and tensor.data_type in EDGES:
            values = st.one_of(values, st.sampled_from(EDGES[tensor.data_type]))
        size = draw(st.sampled_from([length] * 8 + [length + (not whole)])) if -1 in tensor.dims else 1
        asked[tensor.name] = draw(st.lists(values, min_size=size, max_size=size))
    return asked


def ask_http(server: ServerState, asked: Tensors) -> str | None:
    """The sentence of the refusal, None where there is an answer."""
    kinds = {tensor.name: tensor.data_type for tensor in REQUEST}
    inputs = [
        {"name": name, "datatype": kinds[name], "shape": [1, len(data)], "data": data}
        for name, data in asked.items()
    ]
    status, answer = post(f"{server.http_url}/v2/models/{ENSEMBLE}/infer", {"inputs": inputs})
    if status == 200:
        found = {output["name"]: output["data"] for output in answer["outputs"]}
        check(asked, found["recommended_id"], found["score"])
        return None
    assert status == 400, (status, answer, asked)
    return str(answer["error"])


def ask_grpc(ask: Callable[..., Any], asked: Tensors) -> str | None:
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
    for tensor in REQUEST:
        if tensor.name in asked:
            data = asked[tensor.name]
            request.inputs.add(name=tensor.name, datatype=tensor.data_type, shape=[1, len(data)])
            request.raw_input_contents.append(raw(tensor.data_type, data))
    try:
        answer = ask(request, timeout=30)
    except grpc.RpcError as error:
        assert error.code() in REFUSALS, (error, asked)
        return str(error.details())
    places = {output.name: place for place, output in enumerate(answer.outputs)}
    score = np.frombuffer(answer.raw_output_contents[places["score"]], np.float32)
    check(asked, [None] * answer.outputs[places["recommended_id"]].shape[1], score.tolist())
    return None


def raw(kind: str, data: list[Any]) -> bytes:
    if kind == "BYTES":
        texts = np.array([text.encode() for text in data], dtype=np.object_)
        return bytes(serialize_byte_tensor(texts).item()) if data else b""
    return np.array(data, dtype=DTYPES[kind]).tobytes()


def check(asked: Tensors, listed: list[Any], scores: list[float]) -> None:
    """What any answer has: no longer a list than was asked for, best first, nothing twice."""
    assert len(listed) == len(scores) <= asked.get("top_k", [20])[0]
    assert scores == sorted(scores, reverse=True)
    names = [name for name in listed if name is not None]
    assert len(set(names)) == len(names)


def ask_by_the_contract(server: ServerState, ids: list[str], number: int, seed: int) -> None:
    """As many requests, each over both protocols, which agree on whether it is answered."""
    outcomes = {"answered": 0, "refused": 0}

    with grpc.insecure_channel(server.grpc_url) as channel:
        over_grpc = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer

        @seeded(seed)
        @settings(
            max_examples=number,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(requests(ids))
        def ask(asked: Tensors) -> None:
            said = ask_http(server, asked), ask_grpc(over_grpc, asked)
            assert (said[0] is None) == (said[1] is None), (said, json.dumps(asked))
            assert all(sentence is None or len(sentence) > 10 for sentence in said)
            outcomes["answered" if said[0] is None else "refused"] += 1

        ask()
    assert min(outcomes.values()) > number // 20, outcomes


def test_requests_drawn_from_the_contract_are_answered_or_refused_alike_over_both_protocols(
    server: ServerState,
    ids: list[str],
    unharmed: Callable[[], None],  # noqa: F811
) -> None:
    ask_by_the_contract(server, ids, 150, seed=8)
    unharmed()
