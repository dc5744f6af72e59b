"""The load test: real histories at the real server, at random moments, reported and judged."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certificates import issued, written
from conftest import copied
from tls_front import tls_front

from footfall.contract import COMPOSING_MODELS
from footfall.errors import InputError, NotReadyError
from footfall_data.dataset import Dataset
from footfall_loadtest.answers import Answer, Measured
from footfall_loadtest.arguments import add_arguments, as_arguments, options_of
from footfall_loadtest.gate import Gate
from footfall_loadtest.generator import keep_apart
from footfall_loadtest.options import LoadTestOptions
from footfall_loadtest.profile import Profile, burst, ramp, steady
from footfall_loadtest.report import Report
from footfall_loadtest.run import run_load_test
from footfall_loadtest.scenario import FOLDER, scenario_file
from footfall_loadtest.server_times import ServerTimes
from footfall_loadtest.workload import Workload
from footfall_serving.ports import free_port
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

FOOTFALL = str(Path(sys.executable).with_name("footfall"))
SCENARIOS = sorted(file.stem for file in FOLDER.glob("[a-z]*.py"))


def run(dataset: Dataset, out: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [FOOTFALL, "loadtest", "--dataset", str(dataset.folder), "--out", str(out), "--seconds", "2"]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def where(server: ServerState) -> list[str]:
    urls = ["--url", server.grpc_url, "--http-url", server.http_url]
    return [*urls, "--metrics-url", server.metrics_url]


def answer(due_s: float, latency_ms: float, failure: str = "", protocol: str = "grpc") -> Answer:
    return Answer(protocol, due_s, 0.5, latency_ms, failure, 0 if failure else 1)


def test_every_request_of_the_rate_is_sent_over_both_protocols_and_reported(
    server: ServerState, tiny_repository: Path, dataset: Dataset, tmp_path: Path
) -> None:
    there = ("--repository", str(tiny_repository))
    done = run(dataset, tmp_path, *there, "--scenario", "mixed", "--rate", "40", "--json")
    assert done.returncode == 0, done.stderr
    printed, report = json.loads(done.stdout), json.loads((tmp_path / "report.json").read_text())
    assert printed == report
    assert report["total"]["requests"] == 80, "as many as the rate says, however fast the answers come"
    assert report["total"]["failures"] == 0
    for protocol in ("grpc", "http"):
        measured = Measured(**report["protocols"][protocol])
        assert measured.requests > 20
        assert 0 < measured.p50_ms <= measured.p95_ms <= measured.p99_ms <= measured.max_ms
    assert sum(part["requests"] for part in report["timeline"]) == 80
    assert report["versions"] == {"1": 80}
    assert report["generator"]["cpu_ms_per_request"] > 0
    seen = {row["model"]: row for row in report["server"]}
    assert set(seen) <= set(COMPOSING_MODELS)
    assert seen
    assert all(row["compute_ms"] > 0 for row in seen.values())
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 1
    for reference in ("src=", 'href="http', "url(http", "<link"):
        assert reference not in page, "the page needs nothing beside it"


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_runs(scenario: str, three_versions: Path, dataset: Dataset, tmp_path: Path) -> None:
    repository = copied(three_versions, tmp_path / "repository")
    subprocess.run([FOOTFALL, "publish", str(repository / "ranker" / "1")], check=True)
    with running_server(repository):
        command = ("--repository", str(repository), "--scenario", scenario, "--rate", "10")
        done = run(dataset, tmp_path / "out", *command, "--processes", "2", "--seconds", "12")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["total"]["requests"] == pytest.approx(12 * report["intended_per_second"], abs=2)
    assert report["generator"]["processes"] == 2
    assert [swap["what"] for swap in report["swaps"]] == (
        ["publish 3", "rollback"] if scenario == "swap" else []
    )
    assert set(report["versions"]) == ({"1", "3"} if scenario == "swap" else {"1"})


def test_latencies_count_from_the_intended_start() -> None:
    """A server that stands still from second 1 to 2 is not spared the requests that came meanwhile."""
    answers = [
        answer(second, (2 - second) * 1000 + 5 if 1 <= second < 2 else 5) for second in np.arange(0, 3, 0.1)
    ]
    measured = Measured.of(answers, 0, 3)
    assert measured.max_ms == 1005
    assert measured.p50_ms == 5
    assert measured.requests_per_second == pytest.approx(10)
    within = Measured.of(answers, 1, 2)
    assert within.requests == 10
    assert within.requests_per_second == 0, "none was answered before its end"


def test_percentiles_are_those_of_every_request_unrounded() -> None:
    answers = [answer(0.0, 0.25 + number, "" if number % 10 else "failed") for number in range(1, 102)]
    measured = Measured.of(answers, 0, 2)
    assert measured == Measured(101, 10, 45.5, 51.25, 96.25, 100.25, 101.25)


def test_arrivals_follow_the_profile_and_are_as_irregular_as_poissons() -> None:
    profile = burst(rate=50.0, seconds=40.0)
    moments = profile.moments(np.random.default_rng(0))
    assert len(moments) == round(profile.intended)
    assert np.all(np.diff(moments) >= 0)
    counted = np.histogram(moments, [0, 16, 17, 20, 21, 40])[0]
    expected = np.array([50 * 16, 275, 3 * 500, 275, 50 * 19])
    assert np.all(np.abs(counted - expected) < 4 * np.sqrt(expected))
    assert profile.rate(np.array([15.9, 17.1])).tolist() == [50.0, 500.0], "ten times within a second"
    gaps = np.diff(steady(200.0, 50.0).moments(np.random.default_rng(1)))
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1, abs=0.05)


def test_sources_share_the_rate_and_none_repeats_another() -> None:
    profile = ramp(rate=60.0, seconds=10.0)
    assert profile.intended == pytest.approx(330)
    parts = [profile.moments(np.random.default_rng((0, number)), 1 / 3) for number in range(3)]
    assert sum(map(len, parts)) == 330
    assert len(set(np.concatenate(parts))) == 330


def test_without_locust_it_says_what_to_install(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "locust", None)
    options = LoadTestOptions(dataset.folder, tmp_path / "out")
    with pytest.raises(NotReadyError, match=r"locust is not installed; pip install 'footfall\[loadtest\]'"):
        run_load_test("steady", options)
    assert not (tmp_path / "out").exists()


def test_a_server_with_tls_is_loaded_through_its_root(
    server: ServerState, dataset: Dataset, tmp_path: Path
) -> None:
    certificate, key = written(tmp_path, issued("localhost"))
    with (
        tls_front(server.http_port, certificate, key) as http_port,
        tls_front(server.grpc_port, certificate, key) as grpc_port,
    ):
        secured = replace(server, bind="localhost", http_port=http_port, grpc_port=grpc_port)
        options = ("--scenario", "mixed", "--tls-root", str(certificate))
        done = run(dataset, tmp_path / "out", *where(secured), "--metrics-url", "", *options)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert all(report["protocols"][protocol]["requests"] > 20 for protocol in ("grpc", "http"))
    assert report["server"] == []


def test_a_gate_that_is_passed_is_an_error_after_the_report(
    server: ServerState, dataset: Dataset, tmp_path: Path
) -> None:
    done = run(
        dataset, tmp_path, *where(server), "--protocol", "http", "--top-k", "5000", "--max-error-rate", "0.5"
    )
    assert done.returncode == 1
    assert (
        "100 of 100 requests failed, 100.00%, at most 50.00% may: 100 InvalidRequest: top_k is 5000"
        in done.stderr
    )
    assert (tmp_path / "report.html").exists()


def test_nobody_there_is_said_before_any_load(dataset: Dataset, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    done = run(dataset, tmp_path / "out", "--url", address)
    assert done.returncode == 1
    assert f"footfall: no model is ready at {address} (grpc)\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_repository_without_a_server_or_a_second_version_is_said(
    server: ServerState, tiny_repository: Path, dataset: Dataset, tmp_path: Path
) -> None:
    idle = copied(tiny_repository, tmp_path / "idle")
    done = run(dataset, tmp_path / "out", "--repository", str(idle))
    assert done.returncode == 1
    assert f"no server runs on {idle}; start one: footfall serve --repository {idle}" in done.stderr
    done = run(dataset, tmp_path / "out", "--repository", str(tiny_repository), "--scenario", "swap")
    assert done.returncode == 1
    assert f"{tiny_repository} has no version beside the live one, so there is nothing to swap" in done.stderr


def test_the_workload_is_drawn_from_the_data_set_and_repeats(dataset: Dataset) -> None:
    first = list(islice(Workload(dataset.folder, max_events=9).strangers(client=4), 50))
    assert first == list(islice(Workload(dataset.folder, max_events=9).strangers(client=4), 50))
    assert first != list(islice(Workload(dataset.folder, max_events=9).strangers(client=5), 50))
    lengths = {len(request.history) for request in first}
    assert max(lengths) == 9
    assert min(lengths) >= 1
    known = {id_.decode() for id_ in dataset.items}
    assert {event.item for request in first for event in request.history} <= known
    assert all(request.now == request.history[-1].time and request.user is None for request in first)


def test_visitors_come_back_by_name_with_what_they_sent_before_and_a_little_more(dataset: Dataset) -> None:
    visits = list(islice(Workload(dataset.folder, max_events=10_000).visitors(), 3000))
    last: dict[str, Any] = {}
    for request in visits:
        assert request.user is not None
        before = last.get(request.user, [])
        assert request.history[: len(before)] == before
        assert len(before) < len(request.history) <= len(before) + 3
        last[request.user] = request.history
    assert max(Counter(request.user for request in visits).values()) > 2


def test_the_gate_judges_each_protocol_the_errors_and_the_rate() -> None:
    def measured(p99_ms: float = 3.0, requests: int = 100, failures: int = 0) -> dict[str, Any]:
        one = Measured(requests, failures, 48.0, 1.0, 2.0, p99_ms, 9.0).as_json()
        facts = {"intended_per_second": 50.0, "failures": {"late": failures}, "swaps": []}
        return {"total": one, "protocols": {"http": one}, **facts}

    Gate(p99_ms=3.0, min_rate=0.96).check(measured())
    Gate(max_error_rate=0.02).check(measured(failures=2))
    with pytest.raises(InputError, match=r"p99 over http is 9\.0 ms, at most 3 ms"):
        Gate(p99_ms=3.0).check(measured(p99_ms=9.0))
    with pytest.raises(InputError, match=r"2 of 100 requests failed, 2\.00%, at most 1\.00% may: 2 late"):
        Gate(max_error_rate=0.01).check(measured(failures=2))
    with pytest.raises(InputError, match=r"48\.0 requests a second were answered well, 96\.0% of the 50\.0"):
        Gate(min_rate=0.97).check(measured())
    with pytest.raises(InputError, match="no request at all over http"):
        Gate().check(measured(requests=0))
    with pytest.raises(InputError, match="the swap failed: a reason"):
        Gate().check(measured() | {"swaps": [{"error": "a reason"}]})
    with pytest.raises(InputError, match=r"min rate is 95, it must be in 0\.\.1"):
        Gate(min_rate=95)


def test_the_servers_split_is_of_what_came_between_two_looks(server: ServerState, dataset: Dataset) -> None:
    from footfall_client import Client

    times = ServerTimes(server.metrics_url)
    times.begin()
    with Client(server.grpc_url) as client:
        for request in islice(Workload(dataset.folder).strangers(), 3):
            client.recommend(request.history)
    times.look(1.0)
    assert {row.model for row in times.rows} <= set(COMPOSING_MODELS)
    assert all(row.requests >= 3 and row.compute_ms > 0 and row.queue_ms >= 0 for row in times.rows)
    assert times.rows
    unheard = ServerTimes(f"127.0.0.1:{free_port('127.0.0.1')}")
    unheard.begin()
    unheard.look(1.0)
    assert unheard.rows == []


def test_a_report_tells_phases_failures_and_swaps_apart(tmp_path: Path) -> None:
    profile = Profile(((0.0, 10.0), (10.0, 10.0)), (("before", 0.0, 5.0), ("after", 5.0, 10.0)))
    answers = [answer(second, 4.0 if second < 5 else 8.0) for second in np.arange(0, 10, 0.1)]
    answers[7] = answer(0.7, 1.0, "Overloaded: <try> again")
    swap = {"what": "publish 2", "began_s": 4.0, "ended_s": 6.0, "error": ""}
    Report("named", profile, ("grpc",), answers, (), (swap,), 0.2, 1, "somewhere").write(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [phase["p50_ms"] for phase in report["phases"]] == [4.0, 8.0]
    assert report["failures"] == {"Overloaded: <try> again": 1}
    assert report["generator"]["cpu_ms_per_request"] == pytest.approx(2.0)
    assert [part["failures"] for part in report["timeline"]] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    page = (tmp_path / "report.html").read_text()
    assert "publish 2: from 4.0 s to 6.0 s." in page
    assert "Overloaded: &lt;try&gt; again" in page


def test_the_generator_says_whose_cores_it_runs_on(server: ServerState) -> None:
    shared = keep_apart([server.grpc_url])
    assert shared.startswith("the generator ran on the server's own cores")
    assert keep_apart(["shop.example:8001"]) == "the server is on another machine"


@pytest.mark.skipif(not shutil.which("taskset"), reason="needs taskset")
def test_the_generator_leaves_the_servers_cores_where_there_are_others() -> None:
    """A listener kept on core 0, and a process that may use all."""
    listen = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True);"
        " time.sleep(60)"
    )
    look = (
        "import os, sys; from footfall_loadtest.generator import keep_apart; print(keep_apart([sys.argv[1]]));"
        " print(os.sched_getaffinity(0))"
    )
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs two cores")
    command = ["taskset", "--cpu-list", str(cores[0]), sys.executable, "-c", listen]
    listener = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert listener.stdout is not None
        url = f"127.0.0.1:{int(listener.stdout.readline())}"
        said = subprocess.run(
            [sys.executable, "-c", look, url], capture_output=True, text=True, check=True
        ).stdout
    finally:
        listener.kill()
        listener.wait()
    spare = ",".join(map(str, cores[1:]))
    assert f"the generator ran on cores {spare}, the server on {cores[0]}" in said
    assert str(set(cores[1:])) in said


def test_locust_takes_the_same_flags(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = LoadTestOptions(tmp_path, rate=12.5, top_k=7, protocol="both", metrics_url="", seconds=3.0)
    assert options_of(parser.parse_args(as_arguments(given))) == given
    assert options_of(parser.parse_args(["--dataset", "d"])) == LoadTestOptions(Path("d"))
    with pytest.raises(InputError, match="--rate fast is not a number"):
        options_of(parser.parse_args(["--dataset", "d", "--rate", "fast"]))
    assert len(vars(parser.parse_args(["--dataset", "d"]))) == len(fields(LoadTestOptions))


def test_impossible_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rate is 0, it must be above 0"):
        LoadTestOptions(tmp_path, rate=0)
    with pytest.raises(InputError, match="max_events is 0"):
        LoadTestOptions(tmp_path, max_events=0)
    with pytest.raises(InputError, match="there is no scenario flood; there are burst, mixed, ramp"):
        scenario_file("flood")
    with pytest.raises(InputError, match="is not a finished dataset"):
        Workload(tmp_path)
