"""When the client tries again, against servers that say a status and count; and that a bug is not a failed call."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest

from footfall.contract import OVERLOADED
from footfall_client import (
    AsyncClient,
    Client,
    FootfallClientError,
    InvalidRequest,
    ModelNotReady,
    Overloaded,
    ServerError,
    Unavailable,
)
from footfall_client._connection import Connection
from footfall_client._settings import Protocol
from footfall_serving.state import ServerState

NOT_READY = "Request for model 'footfall' is not ready"
UNKNOWN = "Request for unknown model: 'footfall' is not found"
RETRIES = 2


@contextmanager
def http_server(status: str, message: str, calls: list[str]) -> Iterator[str]:
    """Answers everything with `status`, and notes it in `calls`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.append(self.path)
            body = f'{{"error": "{message}"}}'.encode()
            self.send_response(int(status))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()
            thread.join()


@contextmanager
def grpc_server(status: str, message: str, calls: list[str]) -> Iterator[str]:
    """The same over gRPC."""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            def abort(_: bytes, context: Any) -> None:
                calls.append(details.method)
                context.abort(grpc.StatusCode[status], message)

            return grpc.unary_unary_rpc_method_handler(abort)

    running = grpc.server(ThreadPoolExecutor(2), handlers=[Handler()])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop(None).wait()


SERVERS: dict[str, Callable[[str, str, list[str]], Any]] = {"http": http_server, "grpc": grpc_server}


def both_clients(url: str, protocol: Protocol, expected: type[Exception], sentence: str) -> None:
    """Both clients raise it."""
    options: dict[str, Any] = {"protocol": protocol, "timeout": 20, "retries": RETRIES}
    with Client(url, **options) as client, pytest.raises(expected, match=sentence) as raised:
        client.recommend(["a"])
    assert type(raised.value) is expected

    async def ask() -> None:
        async with AsyncClient(url, **options) as client:
            with pytest.raises(expected, match=sentence):
                await client.recommend(["a"])

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("protocol", "status", "message", "expected", "attempts"),
    [
        ("grpc", "UNAVAILABLE", "come back later", Unavailable, RETRIES + 1),
        ("http", "503", "come back later", Unavailable, RETRIES + 1),
        ("grpc", "UNAVAILABLE", NOT_READY, ModelNotReady, RETRIES + 1),
        ("http", "503", NOT_READY, ModelNotReady, RETRIES + 1),
        ("grpc", "NOT_FOUND", UNKNOWN, ModelNotReady, 1),
        ("http", "404", UNKNOWN, ModelNotReady, 1),
        ("http", "400", NOT_READY, ModelNotReady, 1),
        ("grpc", "INVALID_ARGUMENT", "no such thing", InvalidRequest, 1),
        ("http", "400", "no such thing", InvalidRequest, 1),
        ("grpc", "INTERNAL", "it broke", ServerError, 1),
        ("http", "500", "it broke", ServerError, 1),
    ],
)
def test_only_what_the_server_calls_unavailable_is_tried_again(
    protocol: Protocol, status: str, message: str, expected: type[FootfallClientError], attempts: int
) -> None:
    calls: list[str] = []
    with SERVERS[protocol](status, message, calls) as url:
        both_clients(url, protocol, expected, message)
    assert len(calls) == 2 * attempts


@pytest.mark.parametrize(("protocol", "status"), [("grpc", "UNAVAILABLE"), ("http", "503")])
def test_too_many_at_once_is_told_in_one_sentence_and_tried_again(protocol: Protocol, status: str) -> None:
    calls: list[str] = []
    with SERVERS[protocol](status, OVERLOADED, calls) as url:
        both_clients(url, protocol, Overloaded, f"^{url}: {OVERLOADED}$")
    assert len(calls) == 2 * (RETRIES + 1)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_bug_surfaces_as_itself_and_is_not_tried_again(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def broken(*_: Any) -> None:
        calls.append("call")
        raise KeyError("a bug")

    monkeypatch.setattr(Connection, "invoke", broken)
    both_clients("127.0.0.1:1", protocol, KeyError, "a bug")
    assert len(calls) == 2


def test_a_port_that_speaks_the_other_protocol_is_unavailable(server: ServerState) -> None:
    both_clients(server.grpc_url, "http", Unavailable, "nobody answers at")
    both_clients(server.http_url, "grpc", Unavailable, "nobody answers at")
