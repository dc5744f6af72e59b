"""A proxy in the environment is not asked for what is on this machine."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import copied

from footfall_client import AsyncClient, Client
from footfall_client._settings import Protocol, Settings
from footfall_engines.repository import Repository
from footfall_serving.publish import publish
from footfall_serving.server import running_server
from footfall_serving.state import ServerState
from footfall_serving.versions import list_versions

FOOTFALL = str(Path(sys.executable).with_name("footfall"))
NOBODY = "http://127.0.0.1:9"
PROXIES = [
    name
    for lower in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
    for name in (lower, lower.upper())
]


@pytest.fixture
def behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody answers at."""
    for name in PROXIES:
        monkeypatch.setenv(name, NOBODY)
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("behind_a_proxy")
@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_both_clients_reach_this_machine_past_a_proxy(
    server: ServerState, ids: list[str], protocol: Protocol, host: str
) -> None:
    url = f"{host}:{server.grpc_port if protocol == 'grpc' else server.http_port}"
    with Client(url, protocol, retries=0) as client:
        answer = client.recommend(ids[:2], k=3)

    async def ask() -> None:
        async with AsyncClient(url, protocol, retries=0) as client:
            assert (await client.recommend(ids[:2], k=3)).items == answer.items

    asyncio.run(ask())
    assert len(answer.items) == 3


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("LOCALHOST:1", True),
        ("10.0.0.1:1", False),
        ("shop.example:1", False),
        ("localhost.example:1", False),
    ],
)
def test_this_machine_is_known_by_its_names(url: str, is_loopback: bool) -> None:
    assert Settings(url).is_loopback is is_loopback


@pytest.mark.usefixtures("behind_a_proxy")
def test_the_command_line_reaches_this_machine_past_a_proxy(server: ServerState, ids: list[str]) -> None:
    for protocol, url in (("grpc", server.grpc_url), ("http", server.http_url)):
        command = [FOOTFALL, "recommend", "--protocol", protocol, "--url", url, "--item", ids[0]]
        run = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
        assert run.returncode == 0, run.stderr


@pytest.mark.usefixtures("behind_a_proxy")
def test_serve_publish_and_versions_work_past_a_proxy(three_versions: Path, tmp_path: Path) -> None:
    repository = Repository(copied(three_versions, tmp_path / "repository"))
    publish(repository.version_folder(1))
    with running_server(repository.folder):
        assert publish(repository.version_folder(2)).serving
        # The one before stays loaded for a rollback.
        assert [row["loaded"] for row in list_versions(repository.folder)] == [True, True, False]
