"""The real server: answers, refusals, batching, and how it ends and heals."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from footfall.contract import GRPC_KEY_HEADER, KEY_HEADER, REQUEST, RESPONSE
from footfall.errors import InputError
from footfall_client import Client
from footfall_export.version import Version, version_folder
from footfall_serving.server import ANY_PORTS, ServeOptions, running_server
from footfall_serving.state import STATE_FILE, ServerState, read_state
from footfall_serving.stubs import live_stubs

FOOTFALL = str(Path(sys.executable).with_name("footfall"))


def post(url: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"http://{url}", json.dumps(body).encode(), headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def infer(server: ServerState, *inputs: tuple[str, str, list[Any]]) -> tuple[int, dict[str, Any]]:
    body = {
        "inputs": [
            {"name": name, "datatype": kind, "shape": [1, len(data)], "data": data}
            for name, kind, data in inputs
        ]
    }
    return post(f"{server.http_url}/v2/models/footfall/infer", body)


def outputs(answer: dict[str, Any]) -> dict[str, Any]:
    return {output["name"]: output["data"] for output in answer["outputs"]}


@pytest.fixture(scope="module")
def ids(tiny_repository: Path) -> list[str]:
    return [id_.decode() for id_ in Version.open(version_folder(tiny_repository, 1)).items]


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.1)
    return False


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
            tensor.name: [-1, *tensor.dims] for tensor in RESPONSE
        }
        config = client.get_model_config("footfall").config
        assert config.max_batch_size == 64
        statistics = client.get_inference_statistics("ranker").model_stats[0]
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
        (line,) = (x for x in lines if x.startswith("footfall_dropped_events_total") and "unknown_item" in x)
        return float(line.split()[-1])

    before = dropped()
    assert infer(server, ("item_id", "BYTES", ["who", "knows", ids[0]]))[0] == 200
    assert dropped() == before + 2


def test_requests_of_unequal_length_are_batched(server: ServerState, ids: list[str]) -> None:
    def counts() -> tuple[int, int]:
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            statistics = client.get_inference_statistics("ranker").model_stats[0]
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
    assert new_requests - requests == 16 * 30
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


def test_the_repository_api_needs_the_key_on_both_protocols(server: ServerState) -> None:
    index = f"{server.http_url}/v2/repository/index"
    refused, answer = post(index, {})
    assert refused != 200
    assert "restricted" in answer["error"]
    assert post(index, {}, {KEY_HEADER: "wrong"})[0] != 200
    assert post(index, {}, {KEY_HEADER: server.repository_key})[0] == 200
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="restricted"):
            client.unload_model("ranker")
        assert client.get_model_repository_index({GRPC_KEY_HEADER: server.repository_key}).models


def test_a_second_server_on_the_same_repository_or_port_is_refused(
    server: ServerState, tiny_repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is served already"), running_server(tiny_repository):
        pass
    other = tmp_path / "other"
    shutil.copytree(tiny_repository, other, ignore=shutil.ignore_patterns(STATE_FILE))
    options = ServeOptions(http_port=0, grpc_port=server.grpc_port, metrics_port=0)
    sentence = f"grpc port {server.grpc_port} on 127.0.0.1 cannot be used.*tritonserver"
    with pytest.raises(InputError, match=sentence), running_server(other, options):
        pass


def test_a_repository_with_nothing_live_or_a_broken_version_is_refused(
    tiny_repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="has no live version"), running_server(tmp_path):
        pass
    broken = tmp_path / "broken"
    shutil.copytree(tiny_repository, broken, ignore=shutil.ignore_patterns(STATE_FILE))
    (version_folder(broken, 1) / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"model\.onnx has 8 bytes"), running_server(broken):
        pass


def test_a_killed_stub_is_noticed_and_its_model_serves_again(
    server: ServerState, ids: list[str], tiny_repository: Path
) -> None:
    for model in ("ranker", "preprocess"):
        (stub,) = (stub for stub in live_stubs(server.pid) if stub.model == model)
        os.kill(stub.pid, signal.SIGKILL)
        assert eventually(lambda: infer(server, ("item_id", "BYTES", ids[:3]))[0] != 200, 3)
        assert eventually(lambda: infer(server, ("item_id", "BYTES", ids[:3]))[0] == 200, 10)


def serve(repository: Path, *options: str) -> "subprocess.Popen[str]":
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    command = [FOOTFALL, "serve", "--repository", str(repository), *ports, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_command_ends_everything_within_10_seconds(
    tiny_repository: Path, tmp_path: Path, how: signal.Signals
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(tiny_repository, repository, ignore=shutil.ignore_patterns(STATE_FILE))
    command = serve(repository, "--json")
    try:
        assert command.stdout is not None
        facts = json.loads(command.stdout.readline())
        processes = psutil.Process(command.pid).children(recursive=True)
        assert len(processes) >= 4
        if how == signal.SIGTERM:
            # A dead stub keeps the server from ending by itself.
            (stub,) = (stub for stub in live_stubs(facts["pid"]) if stub.model == "postprocess")
            os.kill(stub.pid, signal.SIGKILL)
        command.send_signal(how)
        assert command.wait(10) == (-signal.SIGKILL if how == signal.SIGKILL else 0)
        assert eventually(lambda: not any(_runs(process) for process in processes), 10)
        assert read_state(repository) is None
        if how != signal.SIGKILL:
            assert not (repository / STATE_FILE).exists()
            assert not list(Path("/dev/shm").glob(f"footfall-{command.pid}-*"))
    finally:
        command.kill()
        command.wait()
        for pipe in (command.stdout, command.stderr):
            if pipe is not None:
                pipe.close()


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_grpc_takes_tls_and_the_client_its_root(
    tiny_repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    certificate, key = _self_signed(tmp_path)
    repository = tmp_path / "repository"
    shutil.copytree(tiny_repository, repository, ignore=shutil.ignore_patterns(STATE_FILE))
    options = ServeOptions("127.0.0.1", 0, 0, 0, grpc_tls_cert=certificate, grpc_tls_key=key)
    with running_server(repository, options) as state:
        with Client(f"localhost:{state.grpc_port}", tls=certificate) as client:
            assert client.recommend(ids[:2], k=3).model_version == 1
        with Client(f"localhost:{state.grpc_port}", retries=0, timeout=2) as client:
            assert not client.ready()


def test_half_of_tls_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="both a certificate and its key"):
        ServeOptions(grpc_tls_cert=tmp_path / "cert.pem")
    with pytest.raises(InputError, match="does not exist"):
        ServeOptions(grpc_tls_cert=tmp_path / "cert.pem", grpc_tls_key=tmp_path / "key.pem")


def test_a_key_from_a_file_is_the_one_that_opens(tiny_repository: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(tiny_repository, repository, ignore=shutil.ignore_patterns(STATE_FILE))
    with running_server(repository, ServeOptions("127.0.0.1", 0, 0, 0, repository_key="sesame")) as state:
        assert (repository / STATE_FILE).stat().st_mode & 0o777 == 0o600
        with Client(state.http_url, "http", key="sesame") as client:
            assert {model.name for model in client.models() if model.state == "READY"} >= {
                "footfall",
                "ranker",
            }
    assert ANY_PORTS.repository_key is None


def _self_signed(folder: Path) -> tuple[Path, Path]:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "cert.pem", folder / "key.pem"


def test_other_addresses_of_the_machine_are_not_listened_on(server: ServerState) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", server.grpc_port)) != 0
