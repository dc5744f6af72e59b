"""One server takes over from another behind HAProxy, and no request fails; a server that is told to end drains."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asker import Asker, running
from conftest import PATIENCE_S, copied, eventually
from haproxy import needs_haproxy, running_proxy
from test_server_process import serve

from footfall_client import Client
from footfall_client._settings import Protocol
from footfall_engines.repository import Repository
from footfall_serving.door.drain import drain
from footfall_serving.ports import free_port
from footfall_serving.publish import publish
from footfall_serving.server import running_server


class Served:
    """A repository that `footfall serve` serves, as a process, on ports that stay its own."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self._ports = {name: str(free_port("127.0.0.1")) for name in ("http", "grpc")}
        self._command: subprocess.Popen[str] | None = None

    @property
    def addresses(self) -> dict[str, str]:
        return {name.upper(): f"127.0.0.1:{port}" for name, port in self._ports.items()}

    def start(self) -> None:
        options = [word for name, port in self._ports.items() for word in (f"--{name}-port", port)]
        self._command = serve(self.repository, "--json", *options)
        assert self._command.stdout is not None
        assert json.loads(self._command.stdout.readline())["pid"]

    def end(self) -> list[str]:
        """By SIGTERM; what it said."""
        assert self._command is not None
        self._command.send_signal(signal.SIGTERM)
        _, said = self._command.communicate(timeout=PATIENCE_S)
        assert self._command.returncode == 0
        return said.splitlines()

    def kill(self) -> None:
        if self._command is not None:
            self._command.kill()
            self._command.communicate()


@pytest.fixture
def blue(three_versions: Path, tmp_path: Path) -> Iterator[Served]:
    """Serves version 1."""
    blue = Served(copied(three_versions, tmp_path / "blue"))
    publish(Repository(blue.repository).version_folder(1))
    with contextlib.ExitStack() as stack:
        stack.callback(blue.kill)
        blue.start()
        yield blue


@pytest.fixture
def green(blue: Served, tmp_path: Path) -> Iterator[Served]:
    """Is to serve version 2, by which its answers are known, from a copy of the repository that blue serves."""
    green = Served(Path(shutil.copytree(blue.repository, tmp_path / "green")))
    assert not publish(Repository(green.repository).version_folder(2)).serving
    with contextlib.ExitStack() as stack:
        stack.callback(green.kill)
        yield green


@needs_haproxy
@pytest.mark.parametrize("turns", [1, pytest.param(6, marks=pytest.mark.soak)])
def test_one_server_takes_over_from_another_and_no_request_fails(
    blue: Served, green: Served, tmp_path: Path, turns: int
) -> None:
    (tmp_path / "proxy").mkdir()
    addresses = blue.addresses | {f"GREEN_{name}": address for name, address in green.addresses.items()}
    with running_proxy(tmp_path / "proxy", addresses) as proxy:
        protocols: list[Protocol] = ["grpc", "http"] * 2
        askers = [
            Asker(proxy.url, lambda client: client.recommend([]), protocol, **proxy.options("sesame"))
            for protocol in protocols
        ]

        def answers(version: int, *, alone: bool) -> bool:
            """Whether the last answers of each protocol have the version among them, or are all of it."""
            last = [{answer.model_version for answer in asker.answers[-20:]} for asker in askers]
            return all(versions == {version} if alone else version in versions for versions in last)

        with running(askers):
            for turn in range(turns):
                old, new, version = (blue, green, 2) if turn % 2 == 0 else (green, blue, 1)
                new.start()
                assert eventually(lambda: answers(version, alone=False))  # noqa: B023
                assert "drained" in old.end()
                assert eventually(lambda: answers(version, alone=True))  # noqa: B023
        assert [repr(failure) for asker in askers for failure in asker.failures] == []


def test_a_server_that_drains_is_not_ready_and_answers_who_comes_until_nobody_does(
    tiny_repository: Path, tmp_path: Path
) -> None:
    with (
        running_server(copied(tiny_repository, tmp_path / "repository")) as state,
        ThreadPoolExecutor(1) as pool,
    ):
        urls: list[tuple[str, Protocol]] = [(state.grpc_url, "grpc"), (state.http_url, "http")]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(url, protocol)) for url, protocol in urls]
            assert all(client.ready() for client in clients)
            askers = [Asker(url, lambda client: client.recommend([]), protocol) for url, protocol in urls]
            with running(askers):
                assert not drain(state.grpc_file, seconds=0.0)
                draining = pool.submit(drain, state.grpc_file, PATIENCE_S)
                assert eventually(lambda: not any(client.ready() for client in clients))
                assert not drain(state.grpc_file, PATIENCE_S, hurried=lambda: not draining.done())
            assert [repr(failure) for asker in askers for failure in asker.failures] == []
        assert draining.result()
        for port in (state.http_port, state.grpc_port):
            with socket.socket() as probe:
                assert probe.connect_ex((state.host, port)) != 0
