"""The real server: answers, refusals, batching."""

import threading
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from conftest import eventually, infer, key_of
from tritonclient.utils import InferenceServerException

from footfall.contract import HEADS, REQUEST, response
from footfall_client import Client
from footfall_serving.state import ServerState


def outputs(answer: dict[str, Any]) -> dict[str, Any]:
    return {output["name"]: output["data"] for output in answer["outputs"]}


def test_a_bare_json_request_with_only_item_ids_is_answered(server: ServerState, ids: list[str]) -> None:
    status, answer = infer(server, ("item_id", "BYTES", ids[:3]))
    assert status == 200
    data = outputs(answer)
    assert len(data["recommended_id"]) == len(data["score"]) == 20
    assert not set(data["recommended_id"]) & set(ids[:3])
    assert data["score"] == sorted(data["score"], reverse=True)
    assert sum(data["action_probability"]) == pytest.approx(1.0, abs=1e-5)
    assert data["model_version"] == [1]


def test_metadata_is_the_contract_with_a_batch_axis_as_nvidias_tools_expect(server: ServerState) -> None:
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        metadata = client.get_model_metadata("footfall")
        assert metadata.platform == "ensemble"
        assert [(x.name, x.datatype, list(x.shape)) for x in metadata.inputs] == [
            (tensor.name, tensor.data_type, [-1, *tensor.dims]) for tensor in REQUEST
        ]
        assert {x.name: list(x.shape) for x in metadata.outputs} == {
            tensor.name: [-1, *tensor.dims] for tensor in response(HEADS)
        }
        config = client.get_model_config("footfall").config
        assert config.max_batch_size == 64
        statistics = client.get_inference_statistics("recommender", headers=key_of(server)).model_stats[0]
        assert statistics.version == "1"
        assert statistics.inference_stats.success.count > 0


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ([("item_id", "INT32", [3])], "data-type is 'INT32', but model 'footfall' expects 'BYTES'"),
        (
            [("item_id", "BYTES", ["a", "b"]), ("action", "BYTES", ["view"])],
            "action has 1 entries and item_id 2",
        ),
        (
            [("item_id", "BYTES", ["a"]), ("timestamp", "INT64", [1, 2])],
            "timestamp has 2 entries and item_id 1",
        ),
        ([("item_id", "BYTES", ["a"]), ("top_k", "INT32", [-1])], "top_k is -1"),
        (
            [("item_id", "BYTES", ["a"]), ("top_k", "INT32", [100_000])],
            "top_k is 100000, this version takes 1 to 100",
        ),
        ([("item_id", "BYTES", ["x" * 1_000_000])], "has 1000000 bytes"),
        ([("top_k", "INT32", [3])], "item_id is missing"),
    ],
)
def test_a_malformed_request_is_an_invalid_argument_with_a_sentence(
    server: ServerState, inputs: list[Any], sentence: str
) -> None:
    status, answer = infer(server, *inputs)
    assert status == 400
    assert sentence in answer["error"]


def test_invalid_utf8_is_refused_and_the_server_lives_on(server: ServerState, ids: list[str]) -> None:
    sent = grpcclient.InferInput("item_id", [1, 1], "BYTES")
    sent.set_data_from_numpy(np.array([[b"\xff\xfe"]], dtype=np.object_))
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="is not UTF-8") as refused:
            client.infer("footfall", [sent])
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert infer(server, ("item_id", "BYTES", ids[:1]))[0] == 200


def test_an_empty_history_gets_the_popularity_list(
    server: ServerState, tiny_repository: Path, tiny_checkpoint: Path
) -> None:
    from footfall_training.checkpoint import Checkpoint

    status, answer = infer(server, ("item_id", "BYTES", []), ("top_k", "INT32", [5]))
    assert status == 200
    checkpoint = Checkpoint.open(tiny_checkpoint)
    popularity = checkpoint.load_model().item_popularity.numpy().copy()
    popularity[0] = -np.inf
    data = outputs(answer)
    np.testing.assert_allclose(data["score"], np.sort(popularity)[::-1][:5], rtol=1e-5)
    listed = checkpoint.items.indices([id_.encode() for id_ in data["recommended_id"]])
    np.testing.assert_allclose(popularity[listed], data["score"], rtol=1e-5)


def test_a_hundred_thousand_events_are_answered(server: ServerState, ids: list[str]) -> None:
    status, answer = infer(server, ("item_id", "BYTES", (ids[:50] * 2000)))
    assert status == 200
    assert not set(outputs(answer)["recommended_id"]) & set(ids[:50])


def test_unknown_events_are_dropped_and_counted_in_the_metrics(server: ServerState, ids: list[str]) -> None:
    def dropped() -> float:
        with urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        counts = (x for x in lines if x.startswith("footfall_dropped_events_total") and "unknown_item" in x)
        return sum(float(line.split()[-1]) for line in counts)

    before = dropped()
    assert infer(server, ("item_id", "BYTES", ["who", "knows", ids[0]]))[0] == 200
    assert eventually(lambda: dropped() == before + 2)


def test_requests_of_unequal_length_are_batched(server: ServerState, ids: list[str]) -> None:
    def counts() -> tuple[int, int]:
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            statistics = client.get_inference_statistics("recommender", headers=key_of(server)).model_stats[0]
        return statistics.inference_count, statistics.execution_count

    def ask(length: int) -> None:
        with Client(server.grpc_url) as client:
            for _ in range(30):
                answers[length] = client.recommend(ids[:length])

    with Client(server.grpc_url) as client:
        alone = {length: client.recommend(ids[:length]) for length in range(1, 17)}
    answers: dict[int, Any] = {}
    requests, executions = counts()
    threads = [threading.Thread(target=ask, args=(length,)) for length in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    new_requests, new_executions = counts()
    assert new_requests - requests >= 16 * 30  # the supervisor asks too, once a second or so
    assert new_executions - executions < 0.7 * (new_requests - requests)
    for length, answer in answers.items():
        assert [x.id for x in answer.items] == [x.id for x in alone[length].items]


def test_a_malformed_request_in_a_batch_spoils_no_other(server: ServerState, ids: list[str]) -> None:
    outcomes: list[tuple[bool, int]] = []

    def ask(bad: bool) -> None:
        for _ in range(20):
            top_k = -1 if bad else 5
            outcomes.append(
                (bad, infer(server, ("item_id", "BYTES", ids[:4]), ("top_k", "INT32", [top_k]))[0])
            )

    threads = [threading.Thread(target=ask, args=(place % 2 == 0,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) == {(True, 400), (False, 200)}
