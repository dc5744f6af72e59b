"""The load test: real histories at the real server, judged."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from certificates import issued, written
from tls_front import tls_front

from footfall.errors import InputError, NotReadyError
from footfall_data.dataset import Dataset
from footfall_loadtest.gate import Gate, Measured
from footfall_loadtest.options import LoadTestOptions
from footfall_loadtest.run import Recorder, run_load_test
from footfall_loadtest.workload import Workload
from footfall_serving.ports import free_port
from footfall_serving.state import ServerState

FOOTFALL = str(Path(sys.executable).with_name("footfall"))


def run(
    server: ServerState, dataset: Dataset, out: Path, *options: str
) -> "subprocess.CompletedProcess[str]":
    command = [FOOTFALL, "loadtest", "--dataset", str(dataset.folder), "--out", str(out), "--seconds", "2"]
    urls = ["--url", server.grpc_url, "--http-url", server.http_url]
    return subprocess.run([*command, *urls, *options], capture_output=True, text=True, check=False)


def test_both_protocols_are_loaded_and_reported(
    server: ServerState, dataset: Dataset, tmp_path: Path
) -> None:
    done = run(server, dataset, tmp_path, "--users", "3", "--json")
    assert done.returncode == 0, done.stderr
    printed, written = json.loads(done.stdout), json.loads((tmp_path / "report.json").read_text())
    assert printed == written
    for protocol in ("grpc", "http"):
        measured = Measured(**written[protocol])
        assert measured.requests > 20
        assert measured.failures == 0
        assert 0 < measured.p50_ms <= measured.p95_ms <= measured.p99_ms
        assert measured.p50_ms != round(measured.p50_ms), "exact, where locust's own are whole milliseconds"
        assert measured.requests_per_second == pytest.approx(measured.requests / 2)
    assert "<html" in (tmp_path / "report.html").read_text()


def test_without_locust_it_says_what_to_install(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "locust", None)
    with pytest.raises(NotReadyError, match=r"locust is not installed; pip install 'footfall\[loadtest\]'"):
        run_load_test({}, dataset.folder, tmp_path / "out", LoadTestOptions())
    assert not (tmp_path / "out").exists()


def test_percentiles_are_those_of_every_request_unrounded() -> None:
    recorder = Recorder()
    for number in range(1, 102):
        failure = None if number % 10 else ValueError("failed")
        recorder("grpc", 0.25 + number, failure, name="recommend", response_length=3, context={})
    recorder("http", 123.456, None)
    measured = recorder.measured("grpc", seconds=2.0)
    assert measured == Measured(101, 10, 50.5, 51.25, 96.25, 100.25)
    assert recorder.measured("http", 2.0).p99_ms == 123.456
    with pytest.raises(InputError, match="no request at all over http"):
        Gate().check({"grpc": Measured(1, 0, 1.0, 1.0, 1.0, 1.0), "http": Recorder().measured("http", 2.0)})


def test_a_server_with_tls_is_loaded_through_its_root(
    server: ServerState, dataset: Dataset, tmp_path: Path
) -> None:
    certificate, key = written(tmp_path, issued("localhost"))
    with (
        tls_front(server.http_port, certificate, key) as http_port,
        tls_front(server.grpc_port, certificate, key) as grpc_port,
    ):
        secured = replace(server, bind="localhost", http_port=http_port, grpc_port=grpc_port)
        done = run(secured, dataset, tmp_path / "out", "--users", "2", "--tls-root", str(certificate))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert all(Measured(**report[protocol]).requests > 20 for protocol in ("grpc", "http"))


def test_too_slow_is_an_error(server: ServerState, dataset: Dataset, tmp_path: Path) -> None:
    done = run(server, dataset, tmp_path, "--protocol", "grpc", "--p99-ms", "0.001")
    assert done.returncode == 1
    assert "p99 over grpc is" in done.stderr
    assert (tmp_path / "report.html").exists()


def test_failed_requests_are_an_error(server: ServerState, dataset: Dataset, tmp_path: Path) -> None:
    done = run(server, dataset, tmp_path, "--protocol", "http", "--top-k", "5000")
    assert done.returncode == 1
    assert "requests failed, at most 0 may" in done.stderr


def test_nobody_there_is_said_before_any_load(dataset: Dataset, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    command = [
        FOOTFALL,
        "loadtest",
        "--dataset",
        str(dataset.folder),
        "--out",
        str(tmp_path / "out"),
        "--url",
        address,
    ]
    done = subprocess.run([*command, "--protocol", "grpc"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"no model is ready at {address}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_workload_is_drawn_from_the_data_set_and_repeats(dataset: Dataset) -> None:
    first = list(islice(Workload(dataset.folder, max_events=9).histories(client=4), 50))
    assert first == list(islice(Workload(dataset.folder, max_events=9).histories(client=4), 50))
    assert first != list(islice(Workload(dataset.folder, max_events=9).histories(client=5), 50))
    lengths = {len(history) for history, _ in first}
    assert max(lengths) == 9
    assert min(lengths) >= 1
    known = {id_.decode() for id_ in dataset.items}
    assert {event.item for history, _ in first for event in history} <= known
    assert all(now == history[-1].time for history, now in first)


def test_the_gate_judges_each_protocol_and_all_failures() -> None:
    good = Measured(100, 0, 50.0, 1.0, 2.0, 3.0)
    Gate(p99_ms=3.0).check({"grpc": good})
    Gate().check({"grpc": good})
    with pytest.raises(InputError, match=r"p99 over http is 9\.0 ms, at most 3 ms"):
        Gate(p99_ms=3.0).check({"grpc": good, "http": Measured(100, 0, 50.0, 1.0, 2.0, 9.0)})
    with pytest.raises(InputError, match="2 requests failed, at most 1 may"):
        Gate(max_failures=1).check({"grpc": Measured(100, 2, 50.0, 1.0, 2.0, 3.0)})
    with pytest.raises(InputError, match="no request at all"):
        Gate().check({"grpc": Measured(0, 0, 0.0, 0.0, 0.0, 0.0)})


def test_impossible_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown protocol soap"):
        LoadTestOptions(protocols=("soap",))
    with pytest.raises(InputError, match="users 0"):
        LoadTestOptions(users=0)
    with pytest.raises(InputError, match="is not a finished dataset"):
        Workload(tmp_path)
