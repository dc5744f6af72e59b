"""The supervisor: what died, hangs or stands still serves again, and it says so only then."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from asker import Asker, running
from conftest import a_stub, copied, eventually, infer
from test_server_process import serve

from footfall_client import Client, ModelNotReady, ServerError, Unavailable
from footfall_client._settings import Protocol
from footfall_engines.repository import Repository
from footfall_serving import supervisor
from footfall_serving.install import STUB
from footfall_serving.publish import publish, rollback
from footfall_serving.server import running_server
from footfall_serving.state import ServerState, read_state
from footfall_serving.stubs import Stub, live_stubs


class Service:
    """A served repository and what its supervisor said."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.said: list[str] = []

    @property
    def state(self) -> ServerState:
        """Of the server that runs now."""
        found: list[ServerState] = []

        def look() -> bool:
            state = read_state(self.repository)
            found.extend([] if state is None else [state])
            return bool(found)

        assert eventually(look), self.said
        return found[0]

    def stub(self, model: str) -> Stub:
        return a_stub(self.state.pid, model, version=2)

    def answers(self) -> int | None:
        """The version that does, on the ports of the beginning."""
        with Client(self.state.grpc_url, retries=0, timeout=5) as client:
            try:
                return client.recommend([]).model_version
            except Exception:  # what it fails with is not asked here
                return None

    def says(self, sentence: str) -> bool:
        return eventually(lambda: any(sentence in line for line in self.said))


@pytest.fixture
def service(three_versions: Path, tmp_path: Path) -> Iterator[Service]:
    """Version 2 is live; version 1 was before."""
    service = Service(copied(three_versions, tmp_path / "repository"))
    for number in (1, 2):
        publish(Repository(service.repository).version_folder(number))
    with running_server(service.repository, say=service.said.append):
        yield service


@contextlib.contextmanager
def asking(state: ServerState) -> Iterator[list[Asker]]:
    """Clients over both protocols, from before the block, each answered once, until after it."""
    urls: list[tuple[str, Protocol]] = [(state.grpc_url, "grpc"), (state.http_url, "http")]
    askers = [Asker(url, lambda client: client.recommend([]), protocol) for url, protocol in 2 * urls]
    with running(askers):
        yield askers


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_who_has_the_stubs_name_and_not_yet_its_words_is_no_stub() -> None:
    command = ["bash", "-c", f"exec -a {STUB} sleep 60"]
    with subprocess.Popen(command) as process:
        assert eventually(lambda: psutil.Process(process.pid).cmdline()[:1] == [STUB])
        assert process.pid not in {stub.pid for stub in live_stubs(os.getpid())}
        process.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_dies_or_is_stopped_is_started_again_on_its_ports(
    service: Service, how: signal.Signals
) -> None:
    before = service.state
    orphan = service.stub("recommender")
    os.kill(orphan.pid, signal.SIGSTOP)  # deaf to SIGTERM, and blind to its server's end
    os.kill(before.pid, how)
    assert service.says("supervisor: version 2 serves again")
    assert service.answers() == 2
    assert infer(service.state, ("item_id", "BYTES", ["1"]))[0] == 200  # over HTTP, through the same door
    assert gone(orphan.pid)
    after = service.state
    assert after.pid != before.pid
    assert (after.grpc_port, after.http_port, after.repository_key) == (
        before.grpc_port,
        before.http_port,
        before.repository_key,
    )
    regions = {path.name for path in Path("/dev/shm").glob(f"{after.shm_prefix}*")}
    assert not [name for name in regions if name.startswith(orphan.region)]
    assert publish(Repository(service.repository).version_folder(3)).serving
    assert service.answers() == 3


def test_repeated_deaths_are_followed_by_longer_pauses(service: Service) -> None:
    for turn in range(2):
        os.kill(service.state.pid, signal.SIGKILL)
        assert eventually(lambda: sum("serves again" in line for line in service.said) > turn)  # noqa: B023
        assert service.answers() == 2
    assert [line.partition("again")[2] for line in service.said if "started again" in line] == [
        "",
        " in 1 s",
    ]


def test_a_stub_that_is_stopped_is_replaced(service: Service) -> None:
    model = "recommender"
    stub = service.stub(model)
    os.kill(stub.pid, signal.SIGSTOP)
    assert service.says(f"supervisor: {model} version 2 serves again")
    assert service.answers() == 2
    assert gone(stub.pid)
    assert service.said[0] == f"supervisor: a stub of {model} version 2 was stopped; it is ended"


def test_a_step_that_waits_for_ever_costs_a_new_server(
    three_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(copied(three_versions, tmp_path / "repository"))
    publish(Repository(service.repository).version_folder(1))
    adaptor, hang = service.repository / "recommender" / "1" / "model.py", tmp_path / "hang"
    adaptor.write_text(
        adaptor.read_text()
        + "import pathlib, threading\n\n\nclass Hangs(TritonPythonModel):\n    def execute(self, requests):\n"
        f"        hang = pathlib.Path({str(hang)!r})\n"
        "        if hang.exists():\n            threading.Event().wait()\n"
        "        return super().execute(requests)\n\n\nTritonPythonModel = Hangs\n"
    )
    with running_server(service.repository, say=service.said.append):
        hang.touch()
        assert service.says("is started again")
        hang.unlink()
        assert service.says("supervisor: version 1 serves again")
        assert service.answers() == 1
    assert "the server gives no answer within 4 s; it is started again" in service.said[0]


def test_an_instance_that_hangs_while_another_answers_is_replaced(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PATIENCE_S", 2.0)
    service = Service(copied(tiny_repository, tmp_path / "repository"))
    adaptor = service.repository / "recommender" / "1" / "model.py"
    adaptor.write_text(
        adaptor.read_text()
        + "import threading\n\n\nclass Hangs(TritonPythonModel):\n    def answer(self, asked):\n"
        "        if any(request.user == b'hang' for request in asked):\n"
        "            threading.Event().wait()\n"
        "        return super().answer(asked)\n\n\nTritonPythonModel = Hangs\n"
    )
    with running_server(service.repository, say=service.said.append) as state:
        with Client(state.grpc_url, retries=0, timeout=60) as client, pytest.raises(ServerError):
            client.recommend([], user="hang")
        assert service.says("a stub of recommender version 1 is at one batch for more than 4 s; it is ended")
        assert service.says("supervisor: recommender version 1 serves again")
        assert service.answers() == 1
        assert service.state.pid == state.pid


def test_a_version_that_is_not_live_and_loses_its_stub_is_let_go(service: Service) -> None:
    publish(Repository(service.repository).version_folder(3))
    (Repository(service.repository).version_folder(2) / "model.onnx").unlink()
    stub, server = service.stub("recommender"), service.state.pid
    os.kill(stub.pid, signal.SIGKILL)
    assert service.says("a stub of recommender version 2 died; it is not live, and let go")
    assert eventually(lambda: {stub.version for stub in live_stubs(server)} == {3})
    assert service.answers() == 3
    assert service.state.pid == server


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda data: b"nonsense", "model.onnx has 8 bytes, its manifest says"),
        pytest.param(
            lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
            "its SHA-256 is not the manifest's",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_it_does_not_say_that_a_damaged_version_serves_and_a_rollback_rescues(
    service: Service, spoil: Callable[[bytes], bytes], sentence: str
) -> None:
    """The last byte but eight of a graph is a weight's or a name's: it may well load."""
    file = Repository(service.repository).version_folder(2) / "model.onnx"
    file.write_bytes(spoil(file.read_bytes()))
    with asking(service.state) as askers:
        os.kill(service.stub("recommender").pid, signal.SIGKILL)
        assert service.says(sentence)
        assert service.says("version 2 is live: go back by `footfall rollback`")
        assert not any("serves again" in line for line in service.said)
        assert rollback(service.repository).live == 1
        assert eventually(
            lambda: service.answers() == 1
        )  # gRPC of this process waits before it connects again
    for asker in askers:
        assert any(type(failure) is Unavailable for failure in asker.failures)
        assert not any(isinstance(failure, ModelNotReady) for failure in asker.failures)
    assert service.says("supervisor: version 1 serves again")


def test_what_a_killed_serve_left_is_ended_by_the_next(tiny_repository: Path, tmp_path: Path) -> None:
    repository = copied(tiny_repository, tmp_path / "repository")
    with serve(repository, "--json") as command:
        assert command.stdout is not None
        assert command.stdout.readline()
        state = read_state(repository)
        assert state is not None
        left = [stub.pid for stub in live_stubs(state.pid)] + [state.pid]
        for pid in left:
            os.kill(pid, signal.SIGSTOP)
        command.kill()
    assert read_state(repository) is None
    with running_server(repository) as again:
        assert all(gone(pid) for pid in left)
        assert not list(Path("/dev/shm").glob(f"{state.shm_prefix}*"))
        with Client(again.grpc_url) as client:
            assert client.recommend([]).model_version == 1


@pytest.mark.parametrize("size", [8, None])
def test_a_damaged_live_version_answers_until_another_takes_its_place(
    service: Service, size: int | None
) -> None:
    """`size` None: as before, so that only a load would find it, and what runs is left alone."""
    file = Repository(service.repository).version_folder(2) / "model.onnx"
    file.write_bytes(b"x" * (file.stat().st_size if size is None else size))
    said: list[str] = []
    with asking(service.state) as askers:
        assert publish(Repository(service.repository).version_folder(3), say=said.append).serving
        assert service.answers() == 3
    assert [repr(failure) for asker in askers for failure in asker.failures] == []
    assert {answer.model_version for asker in askers for answer in asker.answers} == {2, 3}
    found = size is not None
    assert ("callers wait at the door while version 3 takes the place of version 2" in said) == found
    assert any("version 2 does not stay loaded" in line for line in said) == found
    assert service.said == []
