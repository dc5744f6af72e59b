"""What callers ask is in no log, metric or statistic: no user id and no item of a history, refused or not."""

import contextlib
import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from conftest import key_of, post
from test_door import INFER
from tritonclient.utils import InferenceServerException

from footfall.contract import ENSEMBLE, MAX_ID_BYTES
from footfall_client import Client
from footfall_client._settings import Protocol
from footfall_serving.launch import LOG_FILE
from footfall_serving.state import ServerState

MARK = "marked"
USER, ITEM = f"{MARK}-user", f"{MARK}-item"
LONG = ITEM * MAX_ID_BYTES
WRONG: list[dict[str, Any]] = [
    {"action": [f"{MARK}-action", "cart"]},
    {"item_id": [ITEM, LONG]},
    {"user_id": [LONG]},
    {"candidate_id": [LONG]},
    {"top_k": [10**6]},
    {"timestamp": [1_700_000_000]},
    {"surprise": [1]},
]
"""Tensors of a request that is refused for them."""
KINDS = {"top_k": "INT32", "timestamp": "INT64", "surprise": "INT32"}


def refused(server: ServerState, tensors: dict[str, list[Any]]) -> None:
    """Over both protocols."""
    kinds = {name: KINDS.get(name, "BYTES") for name in tensors}
    inputs = [
        {"name": name, "datatype": kinds[name], "shape": [1, len(data)], "data": data}
        for name, data in tensors.items()
    ]
    assert post(f"{server.http_url}{INFER}", {"inputs": inputs})[0] == 400
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        sent = []
        for name, data in tensors.items():
            values = [text.encode() for text in data] if kinds[name] == "BYTES" else data
            dtype = {"BYTES": np.object_, "INT32": np.int32, "INT64": np.int64}[kinds[name]]
            sent.append(grpcclient.InferInput(name, [1, len(data)], kinds[name]))
            sent[-1].set_data_from_numpy(np.array([values], dtype=dtype))
        with pytest.raises(InferenceServerException):
            client.infer(ENSEMBLE, sent)


def test_neither_users_nor_histories_are_in_any_log_metric_or_statistic(
    server: ServerState, tiny_repository: Path, ids: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    urls: list[tuple[str, Protocol]] = [(server.grpc_url, "grpc"), (server.http_url, "http")]
    for url, protocol in urls:
        with Client(url, protocol) as client:
            assert client.recommend([ITEM, ids[0]], user=USER).items
            client.score([ITEM], [f"{MARK}-candidate"], user=USER)
    for tensors in WRONG:
        refused(server, {"item_id": [ITEM], "user_id": [USER]} | tensors)
    for body in (f"{ITEM}", f'{{"{ITEM}": 1}}', f'{{"id": "{ITEM * 99}"}}'):
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{server.http_url}{INFER}", body.encode(), timeout=30)
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        statistics = json.dumps(client.get_inference_statistics(headers=key_of(server), as_json=True))
    with urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    said = capfd.readouterr()
    log = (tiny_repository / LOG_FILE).read_text(errors="replace")
    assert "nv_inference" in metrics
    assert ENSEMBLE in log
    assert ENSEMBLE in statistics
    for text in (log, metrics, statistics, said.out, said.err):
        assert MARK not in text
        assert ids[0] not in text
