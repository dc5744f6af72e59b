"""Who may do what with the server: TLS and the key."""

import json
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as grpcclient
from certificates import issued, pem, written
from conftest import a_stub, copied, eventually, key_of, post
from cryptography.hazmat.primitives import serialization
from tritonclient.utils import InferenceServerException

from footfall.contract import GRPC_KEY_HEADER, KEY_HEADER
from footfall.errors import InputError
from footfall_client import Client
from footfall_engines.repository import Repository
from footfall_serving.options import ServeOptions
from footfall_serving.publish import publish, rollback
from footfall_serving.server import ANY_PORTS, running_server
from footfall_serving.state import STATE_FILE, ServerState
from footfall_serving.tls import check_certificate
from footfall_serving.versions import list_versions


def test_the_repository_api_needs_the_key_on_both_protocols(server: ServerState) -> None:
    index = f"{server.http_url}/v2/repository/index"
    refused, answer = post(index, {})
    assert refused != 200
    assert "restricted" in answer["error"]
    assert post(index, {}, {KEY_HEADER: "wrong"})[0] != 200
    assert post(index, {}, {KEY_HEADER: server.repository_key})[0] == 200
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="restricted"):
            client.unload_model("recommender")
        assert client.get_model_repository_index({GRPC_KEY_HEADER: server.repository_key}).models


def test_grpc_takes_tls_and_the_client_its_root(
    tiny_repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    certificate, key = written(tmp_path, issued("localhost"))
    repository = copied(tiny_repository, tmp_path / "repository")
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
    repository = copied(tiny_repository, tmp_path / "repository")
    with running_server(repository, ServeOptions("127.0.0.1", 0, 0, 0, repository_key="sesame")) as state:
        assert (repository / STATE_FILE).stat().st_mode & 0o777 == 0o600
        with Client(state.http_url, "http", key="sesame") as client:
            assert {model.name for model in client.models() if model.state == "READY"} >= {
                "footfall",
                "recommender",
            }
    assert ANY_PORTS.repository_key is None


def test_supervision_and_swaps_work_with_a_certificate_that_does_not_name_the_address(
    three_versions: Path, tmp_path: Path
) -> None:
    root = issued()
    certificate, key = written(tmp_path, issued("shop.example", "localhost", by=root))
    repository = copied(three_versions, tmp_path / "repository")
    publish(Repository(repository).version_folder(1))
    options = ServeOptions("127.0.0.1", 0, 0, 0, grpc_tls_cert=certificate, grpc_tls_key=key)
    said: list[str] = []
    with (
        running_server(repository, options, said.append) as state,
        Client(f"localhost:{state.grpc_port}", tls=certificate, retries=0) as client,
    ):
        assert [row["loaded"] for row in list_versions(repository)] == [True, False, False]
        assert publish(Repository(repository).version_folder(2)).serving
        assert client.recommend([]).model_version == 2
        os.kill(a_stub(state.pid, "recommender", 2).pid, signal.SIGKILL)
        assert eventually(lambda: "supervisor: recommender version 2 serves again" in said)
        assert client.recommend([]).model_version == 2
        assert rollback(repository).live == 1
    assert len(said) == 2, said


def test_tls_files_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    certificate, key = written(tmp_path / "good", issued("localhost"))
    other, other_key = written(tmp_path / "other", issued("localhost"))
    expired, expired_key = written(tmp_path / "expired", issued("localhost", days=-1))
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(pem(issued()[1], serialization.BestAvailableEncryption(b"secret")))
    for files, reason in (
        ((certificate, other_key, certificate), "MISMATCH"),
        ((certificate, key, other), "self-signed|signature"),
        ((expired, expired_key, expired), "expired"),
        ((key, key, certificate), "not in PEM"),
        ((certificate, encrypted, certificate), "has a password"),
    ):
        with pytest.raises(InputError, match=f"the certificate {files[0]}.* fails: .*({reason})"):
            check_certificate(*files)


def test_log_and_trace_settings_need_the_key(server: ServerState) -> None:
    for api in ("logging", "trace/setting", "models/footfall/trace/setting"):
        status, answer = post(f"{server.http_url}/v2/{api}", {})
        assert status != 200
        assert "restricted" in answer["error"]
        assert post(f"{server.http_url}/v2/{api}", {}, {KEY_HEADER: server.repository_key})[0] == 200
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="restricted"):
            client.update_log_settings({"log_verbose_level": 1})
        with pytest.raises(InferenceServerException, match="restricted"):
            client.update_trace_settings("footfall", {"trace_level": ["TIMESTAMPS"]})


def test_statistics_need_the_key(server: ServerState) -> None:
    key = {KEY_HEADER: server.repository_key}
    for path in ("stats", "footfall/stats", "recommender/versions/1/stats"):
        assert "restricted" in got(server, path)["error"]
        assert "restricted" in got(server, path, {KEY_HEADER: "wrong"})["error"]
        assert got(server, path, key)["model_stats"]
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        for model in ("", "footfall"):
            with pytest.raises(InferenceServerException, match="restricted"):
                client.get_inference_statistics(model)
            assert client.get_inference_statistics(model, headers=key_of(server)).model_stats


def got(server: ServerState, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(f"http://{server.http_url}/v2/models/{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))
