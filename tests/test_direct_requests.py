"""Rows that lie, told to the ranker behind the door, as a fault of the step before it would: no answer mixes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from footfall.contract import HISTORY_COLUMNS
from footfall.errors import InputError
from footfall_client import Client
from footfall_engines.batch import check_history, join_histories
from footfall_engines.model_configs import DATA_TYPES, step_inputs
from footfall_engines.repository import Repository
from footfall_serving.state import ServerState

DTYPES = {"BYTES": np.object_, "INT32": np.int32, "INT64": np.int64, "FP32": np.float32, "BOOL": np.bool_}
LIES = [
    {"history_length": [-1]},
    {"history_length": [1_000_000]},
    {"history_length": [-(2**31)]},
    {"history_item": [1], "history_length": [3]},
    {"history_time": [1, 2, 3, 4, 5, 6]},
    {"history_item": [-5, 2**31 - 1, 0]},
    {"history_gap": [-1, 40, 2**31 - 1]},
]
"""Of a request of 3 events, that it is refused for."""
LISTED: dict[str, list[Any]] = {"item_index": [3, 2, 0], "item_score": [1.0, 0.5, -np.inf]}
ODD = [{"excluded_index": [-1]}, {"candidate_index": [-(2**31)]}]
"""What means nothing and counts for nothing."""


def row(**changes: list[Any]) -> dict[str, list[Any]]:
    three: dict[str, list[Any]] = {tensor.name: [1, 2, 1] for tensor in HISTORY_COLUMNS}
    one = {"history_length": [3], "excluded_index": [0], "candidate_index": [0]}
    return three | one | changes


def ask(
    client: grpcclient.InferenceServerClient, step: str, values: dict[str, list[Any]], rows: int = 1
) -> Any:
    inputs = []
    for tensor in step_inputs(step, "tensorrt" if step == "postprocess" else "python"):
        if tensor.name in values:
            array = np.array([values[tensor.name]] * rows, dtype=DTYPES[tensor.data_type])
            inputs.append(grpcclient.InferInput(tensor.name, list(array.shape), tensor.data_type))
            inputs[-1].set_data_from_numpy(array)
    return client.infer(step, inputs)


def test_a_step_answers_one_user_a_request(server_with_ranker: ServerState) -> None:
    with grpcclient.InferenceServerClient(f"unix:{server_with_ranker.grpc_file}") as client:
        for step, values in (("ranker", row()), ("postprocess", LISTED)):
            with pytest.raises(InferenceServerException, match="a request is of one user"):
                ask(client, step, values, rows=3)
        with pytest.raises(InferenceServerException, match="item_index has 2 entries and item_score 3"):
            ask(client, "postprocess", LISTED | {"item_index": [1, 2]})


def test_what_a_plan_of_the_servers_own_lists_gets_its_ids(
    server_with_ranker: ServerState, ids: list[str]
) -> None:
    with grpcclient.InferenceServerClient(f"unix:{server_with_ranker.grpc_file}") as client:
        for top_k, listed in ((2, [2, 1]), (1, [2])):
            answer = ask(client, "postprocess", LISTED | {"top_k": [top_k]})
            assert answer.as_numpy("recommended_id").tolist() == [[ids[place].encode() for place in listed]]
            assert answer.as_numpy("score").tolist() == [[1.0, 0.5][:top_k]]
            assert answer.as_numpy("model_version").tolist() == [[1]]


def test_a_ranker_apart_answers_as_the_recommender(
    server: ServerState, server_with_ranker: ServerState, ids: list[str]
) -> None:
    with Client(server.grpc_url) as together, Client(server_with_ranker.http_url, "http") as apart:
        for length in (0, 1, 7, 19, 30):
            asked: dict[str, Any] = {"k": 9, "user": "anna", "now": 1_700_000_000_000}
            expected, answer = (one.recommend(ids[:length], **asked) for one in (together, apart))
            assert [item.id for item in answer.items] == [item.id for item in expected.items]
            assert answer.user_vector == pytest.approx(expected.user_vector, abs=1e-4)
            assert answer.action_probability == pytest.approx(expected.action_probability, abs=1e-4)


def test_hostile_requests_beside_honest_ones_change_no_answer_and_fail_none(
    server_with_ranker: ServerState, ids: list[str]
) -> None:
    server = server_with_ranker
    histories = [ids[start : start + 1 + start % 7] for start in range(0, 200, 5)]
    with Client(server.grpc_url, timeout=60) as alone:
        expected = [alone.recommend(history) for history in histories]
    ended = threading.Event()

    def lie(number: int) -> int:
        refused = 0
        with grpcclient.InferenceServerClient(f"unix:{server.grpc_file}") as client:
            while not ended.is_set():
                with pytest.raises(InferenceServerException, match="history") as refusal:
                    ask(client, "ranker", row(**LIES[(number + refused) % len(LIES)]))
                assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"
                ask(client, "ranker", row(**ODD[refused % len(ODD)]))
                refused += 1
        return refused

    def be_honest(number: int) -> list[str]:
        wrong = []
        with Client(server.grpc_url, timeout=60, retries=0) as client:
            for turn in range(2 * len(histories)):
                place = (turn + number) % len(histories)
                answer = client.recommend(histories[place])
                # Of a batch of another size the sums differ in the last digits.
                scores = [[item.score for item in one.items] for one in (answer, expected[place])]
                if not np.allclose(scores[0], scores[1], atol=1e-4):
                    wrong.append(f"{place}: {scores}")
        return wrong

    with ThreadPoolExecutor(12) as pool:
        liars = [pool.submit(lie, number) for number in range(4)]
        honest = [pool.submit(be_honest, number) for number in range(8)]
        try:
            assert [one.result() for one in honest] == [[]] * 8
        finally:
            ended.set()
        assert all(liar.result() > 0 for liar in liars)


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        ({"history_length": [-1]}, "history_length is -1, the history's columns hold"),
        ({"history_length": [4]}, "history_length is 4"),
        ({"history_item": [1]}, r"columns hold \[1, 3\] events"),
        ({"history_item": [1, -5, 2]}, "history_item holds -5, this version knows 0 to"),
        ({"history_item": [1, 2**31 - 1, 2]}, "history_item holds 2147483647"),
        ({"history_action": [1, 99, 2]}, "history_action holds 99"),
        ({"history_gap": [40, 0, 0]}, "history_gap holds 40, this version knows 0 to 39"),
    ],
)
def test_a_row_that_lies_of_itself_is_refused_and_its_neighbours_are_not(
    tiny_repository: Path, lie: dict[str, list[int]], sentence: str
) -> None:
    version = Repository(tiny_repository).version(1)
    good = {name: np.array(values, np.int32) for name, values in row().items()}
    bad = good | {name: np.array(values, np.int32) for name, values in lie.items()}
    check_history(join_histories([good, good]), version)
    for rows in ([good, bad], [bad]):
        with pytest.raises(InputError, match=sentence):
            check_history(join_histories(rows), version)
    long = {name: np.repeat(values, 20) if len(values) == 3 else values * 20 for name, values in good.items()}
    with pytest.raises(InputError, match="a history has 60 events, this version reads 20"):
        check_history(join_histories([long]), version)


def test_every_data_type_of_the_contract_is_sent_here() -> None:
    assert set(DTYPES) == set(DATA_TYPES)
