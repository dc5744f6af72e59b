"""The client's TLS root, over HTTP through a front that takes TLS; test_server has gRPC's."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import issued, written
from tls_front import tls_front

from footfall_client import AsyncClient, Client, InvalidRequest, Unavailable
from footfall_client._settings import Protocol
from footfall_serving.state import ServerState

FOOTFALL = str(Path(sys.executable).with_name("footfall"))


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return written(tmp_path_factory.mktemp("pem"), issued("localhost"))


@pytest.fixture
def https(server: ServerState, pem: tuple[Path, Path]) -> Iterator[str]:
    with tls_front(server.http_port, *pem) as port:
        yield f"localhost:{port}"


def test_the_root_opens_a_self_signed_https_server_for_both_clients(
    https: str, pem: tuple[Path, Path]
) -> None:
    with Client(https, "http", tls=pem[0]) as client:
        assert client.ready()
        answer = client.recommend(["a"], k=3)

    async def ask() -> None:
        async with AsyncClient(https, "http", tls=str(pem[0])) as client:
            assert (await client.recommend(["a"], k=3)).items == answer.items

    asyncio.run(ask())


def test_without_its_root_a_self_signed_https_server_is_not_trusted(https: str) -> None:
    with (
        Client(https, "http", tls=True, retries=0) as client,
        pytest.raises(Unavailable, match=r"(?i)certif"),
    ):
        client.recommend(["a"])

    async def ask() -> None:
        async with AsyncClient(https, "http", tls=True, retries=0) as client:
            with pytest.raises(Unavailable, match=r"(?i)certif"):
                await client.recommend(["a"])

    asyncio.run(ask())


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_root_that_is_absent_or_no_certificate_is_refused(protocol: Protocol, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"the TLS root /nosuch\.pem cannot be read: No such file"):
        Client("localhost:1", protocol, tls="/nosuch.pem")
    (tmp_path / "empty.pem").write_text("no certificate")
    with pytest.raises(InvalidRequest, match=r"empty\.pem holds no PEM certificate"):
        Client("localhost:1", protocol, tls=tmp_path / "empty.pem")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_command_line_refuses_an_absent_root_in_a_sentence(protocol: str) -> None:
    command = [FOOTFALL, "recommend", "--protocol", protocol, "--tls-root", "/nosuch.pem", "--item", "a"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == "footfall: the TLS root /nosuch.pem cannot be read: No such file or directory\n"


def test_the_command_line_reaches_an_https_server_by_its_root(https: str, pem: tuple[Path, Path]) -> None:
    command = [FOOTFALL, "recommend", "--protocol", "http", "--url", https, "--tls-root", str(pem[0])]
    run = subprocess.run([*command, "--item", "a", "-k", "3"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
