"""proxy/haproxy.cfg, run by a real HAProxy: mutual TLS, a key a caller, a rate a key, for HTTP and gRPC alike."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as grpcclient
from certificates import issued, written
from conftest import eventually
from haproxy import Proxy, needs_haproxy, running_proxy
from tritonclient.utils import InferenceServerException

from footfall_client import Client, FootfallClientError, InvalidRequest, Overloaded, Unauthorized, Unavailable
from footfall_client._settings import Protocol
from footfall_serving.state import ServerState

pytestmark = needs_haproxy

BOTH = pytest.mark.parametrize("protocol", ["grpc", "http"])
LIMIT = 20


@pytest.fixture(scope="module")
def proxy(server: ServerState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    addresses = {"HTTP": server.http_url, "GRPC": server.grpc_url}
    with running_proxy(tmp_path_factory.mktemp("proxy"), addresses, limit=LIMIT) as proxy:
        yield proxy


@BOTH
def test_who_has_a_certificate_and_a_key_is_answered(
    proxy: Proxy, ids: list[str], protocol: Protocol
) -> None:
    with proxy.client(protocol, "sesame") as client:
        assert client.ready()
        assert client.recommend(ids[:3], k=5).model_version == 1
        assert client.score(ids[:3], ids[3:5])


@BOTH
def test_who_has_no_certificate_or_another_roots_is_not_heard(
    proxy: Proxy, ids: list[str], protocol: Protocol, tmp_path: Path
) -> None:
    strange = written(tmp_path, issued("caller", by=issued()))
    for certificate in (None, strange):
        with (
            proxy.client(protocol, "sesame", certificate=certificate, timeout=2) as client,
            pytest.raises(FootfallClientError) as refusal,
        ):
            client.recommend(ids[:3])
        assert type(refusal.value) in (Unavailable, FootfallClientError), refusal.value


@BOTH
@pytest.mark.parametrize("key", [None, "wrong", ""])
def test_who_has_no_key_is_refused(proxy: Proxy, ids: list[str], protocol: Protocol, key: str | None) -> None:
    with proxy.client(protocol, key) as client, pytest.raises(Unauthorized):
        client.recommend(ids[:3])


@BOTH
def test_who_asks_more_than_its_rate_is_refused_alone_and_answered_after_a_pause(
    proxy: Proxy, ids: list[str], protocol: Protocol
) -> None:
    def exceeds(client: Client) -> bool:
        try:
            client.recommend(ids[:3])
        except Overloaded:
            return True
        return False

    with proxy.client(protocol, "slow-sesame") as client, proxy.client(protocol, "sesame") as other:
        assert any(exceeds(client) for _ in range(100 * LIMIT))
        assert other.recommend(ids[:3]).items
    with proxy.client(protocol, "slow-sesame", retries=9, timeout=30) as patient:
        assert patient.recommend(ids[:3]).items


def test_nothing_else_is_offered_whatever_key_there_is(proxy: Proxy, server: ServerState) -> None:
    with proxy.client("http", "sesame") as client, pytest.raises(Unauthorized):
        client.models()
    options: dict[str, Any] = {"ssl": True, "root_certificates": str(proxy.root)}
    options |= {"certificate_chain": str(proxy.caller[0]), "private_key": str(proxy.caller[1])}
    with grpcclient.InferenceServerClient(proxy.url, **options) as client:
        closed: list[Callable[..., object]] = [
            client.get_inference_statistics,
            client.get_model_repository_index,
            client.get_log_settings,
            client.get_trace_settings,
            client.get_system_shared_memory_status,
        ]
        for call in closed:
            with pytest.raises(InferenceServerException, match=r"403|PERMISSION_DENIED"):
                call(headers={"x-api-key": "sesame"})


def test_neither_keys_nor_ids_are_in_the_proxys_log(proxy: Proxy, ids: list[str]) -> None:
    with proxy.client("http", "sesame") as client:
        client.recommend([ids[0], "marked-item"], user="marked-user")
    assert eventually(lambda: "shop POST /v2/models/footfall/infer 200" in proxy.log.read_text())
    for secret in ("sesame", "marked", ids[0]):
        assert secret not in proxy.log.read_text()


def test_a_certificate_that_cannot_be_shown_is_refused_in_a_sentence(tmp_path: Path) -> None:
    pair, other = written(tmp_path / "a", issued("a")), written(tmp_path / "b", issued("b"))
    with pytest.raises(InvalidRequest, match="is of no use without tls"):
        Client("localhost:1", certificate=pair)
    with pytest.raises(InvalidRequest, match="are not of each other"):
        Client("localhost:1", tls=True, certificate=(pair[0], other[1]))
