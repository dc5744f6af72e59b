"""The server's process: how it starts, ends and heals."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from conftest import PATIENCE_S, a_stub, copied, eventually, hold_load, infer, make_unloadable

from footfall.errors import InputError, NotReadyError
from footfall_client import Client
from footfall_engines.repository import Repository
from footfall_serving import supervisor as supervision
from footfall_serving.options import ServeOptions
from footfall_serving.publish import publish, rollback
from footfall_serving.server import running_server
from footfall_serving.state import STATE_FILE, ServerState, read_state
from footfall_serving.stubs import live_stubs
from footfall_serving.supervisor import Supervisor

FOOTFALL = str(Path(sys.executable).with_name("footfall"))


def test_a_second_server_on_the_same_repository_or_port_is_refused(
    server: ServerState, tiny_repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is served already"), running_server(tiny_repository):
        pass
    other = copied(tiny_repository, tmp_path / "other")
    options = ServeOptions(http_port=0, grpc_port=server.grpc_port, metrics_port=0)
    sentence = f"grpc port {server.grpc_port} on 127.0.0.1 cannot be used.*python"
    with pytest.raises(InputError, match=sentence), running_server(other, options):
        pass


def test_a_repository_with_nothing_live_or_a_broken_version_is_refused(
    tiny_repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="has no live version"), running_server(tmp_path):
        pass
    broken = copied(tiny_repository, tmp_path / "broken")
    (Repository(broken).version_folder(1) / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"model\.onnx has 8 bytes"), running_server(broken):
        pass


def test_a_killed_stub_is_noticed_and_its_model_serves_again(
    server: ServerState, ids: list[str], tiny_repository: Path
) -> None:
    killed = a_stub(server.pid, "recommender", 1)
    os.kill(killed.pid, signal.SIGKILL)
    assert eventually(lambda: killed.pid not in {stub.pid for stub in live_stubs(server.pid)})
    assert a_stub(server.pid, "recommender", 1).version == 1
    assert eventually(lambda: infer(server, ("item_id", "BYTES", ids[:3]))[0] == 200)


def serve(repository: Path, *options: str) -> "subprocess.Popen[str]":
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    command = [FOOTFALL, "serve", "--repository", str(repository), *ports, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_command_ends_everything(tiny_repository: Path, tmp_path: Path, how: signal.Signals) -> None:
    repository = copied(tiny_repository, tmp_path / "repository")
    command = serve(repository, "--json")
    try:
        assert command.stdout is not None
        facts = json.loads(command.stdout.readline())
        prefix = json.loads((repository / STATE_FILE).read_text())["shm_prefix"]
        assert list(Path("/dev/shm").glob(f"{prefix}*"))
        processes = psutil.Process(command.pid).children(recursive=True)
        assert len(processes) >= 4
        if how == signal.SIGTERM:
            # A dead stub keeps the server from ending by itself.
            os.kill(a_stub(facts["pid"], "recommender", 1).pid, signal.SIGKILL)
        command.send_signal(how)
        assert command.wait(PATIENCE_S) == (-signal.SIGKILL if how == signal.SIGKILL else 0)
        assert command.stderr is not None
        assert ("drained" in command.stderr.read().splitlines()) == (how == signal.SIGTERM)
        assert eventually(lambda: not any(_runs(process) for process in processes))
        assert read_state(repository) is None
        if how != signal.SIGKILL:
            assert not (repository / STATE_FILE).exists()
            assert not list(Path("/dev/shm").glob(f"{prefix}*"))
    finally:
        command.kill()
        command.wait()
        for pipe in (command.stdout, command.stderr):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_still_loading_ends_with_all_it_started(
    tiny_repository: Path, tmp_path: Path, how: signal.Signals
) -> None:
    repository = copied(tiny_repository, tmp_path / "repository")
    loads = hold_load(repository / "recommender" / "1" / "model.py", tmp_path)
    command = serve(repository)
    try:
        loads.wait()
        processes = psutil.Process(command.pid).children(recursive=True)
        assert len(processes) > 1
        command.send_signal(how)
        said, complaints = command.communicate(timeout=PATIENCE_S)
        assert complaints.endswith("stopped\n")
        assert (command.returncode, said) == (0, "")
        assert not any(_runs(process) for process in processes)
        assert not (repository / STATE_FILE).exists()
    finally:
        command.kill()
        command.wait()


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_other_addresses_of_the_machine_are_not_listened_on(server: ServerState) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", server.grpc_port)) != 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"http_port": 99999}, "http port 99999 is not in 0..65535"),
        ({"metrics_port": -4}, "metrics port -4 is not in 0..65535"),
        ({"max_inferences": 0}, "max inferences 0 must be at least 1"),
        ({"drain_s": -1.0}, "drain s -1.0 cannot be below 0"),
        ({"http_port": 8001}, "http and grpc cannot both have port 8001"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ServeOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("bind", ["9.9.9.9", "no.such.host.invalid", "a" * 100])
@pytest.mark.parametrize("port", [0, 8003])
def test_an_address_that_is_not_this_machines_is_refused(
    tiny_repository: Path, tmp_path: Path, bind: str, port: int
) -> None:
    repository = copied(tiny_repository, tmp_path / "repository")
    with (
        pytest.raises(InputError, match=f"{bind} cannot be"),
        running_server(repository, ServeOptions(bind, port, 0, 0)),
    ):
        pass


def test_a_repository_that_another_footfall_wrote_is_served(tiny_repository: Path, tmp_path: Path) -> None:
    """Of which each version had three steps, with other adaptors."""
    repository = copied(tiny_repository, tmp_path / "repository")
    shutil.rmtree(repository / "recommender")
    path = Repository(repository).config_path("footfall")
    assert 'model_name: "recommender"' in path.read_text()
    path.write_text(path.read_text().replace("recommender", "preprocess"))
    with running_server(repository) as state, Client(state.grpc_url) as client:
        assert client.recommend([]).model_version == 1


def test_a_server_on_every_address_is_reached_by_loopback() -> None:
    state = ServerState(1, "0.0.0.0", 8000, 8001, 8002, "grpc:1", "key", "prefix")
    assert (state.http_url, state.grpc_url, state.metrics_url) == (
        "127.0.0.1:8000",
        "127.0.0.1:8001",
        "127.0.0.1:8002",
    )


def test_the_command_refuses_in_a_sentence_without_a_traceback(tiny_repository: Path) -> None:
    command = [FOOTFALL, "serve", "--repository", str(tiny_repository), "--http-port", "99999"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == "footfall: http port 99999 is not in 0..65535\n"


def test_a_rollback_rescues_a_repository_whose_newest_version_does_not_load(
    three_versions: Path, tmp_path: Path
) -> None:
    repository = copied(three_versions, tmp_path / "repository")
    make_unloadable(Repository(repository).version_folder(2))
    for version in (1, 2):
        publish(Repository(repository).version_folder(version))
    with pytest.raises(NotReadyError, match="recommender"), running_server(repository):
        pass
    assert rollback(repository).live == 1
    with running_server(repository) as state, Client(state.grpc_url) as client:
        assert client.recommend([]).model_version == 1
        assert publish(Repository(repository).version_folder(1)).serving
        assert publish(Repository(repository).version_folder(3)).live == 3
        assert client.recommend([]).model_version == 3


def test_a_rollback_leaves_a_damaged_version_behind(three_versions: Path, tmp_path: Path) -> None:
    repository = copied(three_versions, tmp_path / "repository")
    for version in (1, 2):
        publish(Repository(repository).version_folder(version))
    (Repository(repository).version_folder(2) / "model.onnx").unlink()
    said: list[str] = []
    assert rollback(repository, say=said.append).live == 1
    assert "version 2 does not stay loaded" in said[0]


def test_whatever_the_supervisor_meets_it_says_so_and_goes_on(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    went_on = threading.Event()
    errors = [OSError("the disk is full"), psutil.AccessDenied(1)]

    repository = copied(tiny_repository, tmp_path / "repository")

    def look(self: Supervisor) -> None:
        if self._repository.folder != repository:
            return  # that of another test's server
        if errors:
            raise errors.pop(0)
        went_on.set()

    monkeypatch.setattr(supervision, "PERIOD_S", 0.01)
    monkeypatch.setattr(Supervisor, "_look", look)
    with running_server(repository, say=said.append):
        assert went_on.wait(PATIENCE_S)
    assert said[0] == "supervisor: the disk is full"
    assert len(said) == 2
