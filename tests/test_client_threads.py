"""One blocking client asked by many threads, on both sides of a fork, and by servers that are odd about HTTP."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from footfall_client import Client, DeadlineExceeded
from footfall_client._settings import Protocol
from footfall_serving.state import ServerState

THREADS, CALLS = 16, 50
FORKED = """
import os, sys
from footfall_client import Client

url, protocol, *history = sys.argv[1:]
with Client(url, protocol, timeout=60) as client:
    before = client.recommend(history)
    child = os.fork()
    same = all(client.recommend(history).items == before.items for _ in range(20))
    if child == 0:
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    print(same, os.waitstatus_to_exitcode(status), client.recommend(history).items == before.items)
"""


def url(server: ServerState, protocol: Protocol) -> str:
    return server.grpc_url if protocol == "grpc" else server.http_url


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_one_client_serves_many_threads(server: ServerState, ids: list[str], protocol: Protocol) -> None:
    with (
        Client(url(server, protocol), protocol, timeout=60) as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        histories = [ids[place : place + 3] for place in range(THREADS)]
        alone = [client.recommend(history, k=5).items for history in histories]

        def ask(number: int) -> list[bool]:
            return [client.recommend(histories[number], k=5).items == alone[number] for _ in range(CALLS)]

        right = [same for answers in pool.map(ask, range(THREADS)) for same in answers]
    assert right == [True] * (THREADS * CALLS)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_client_serves_both_sides_of_a_fork(
    server: ServerState, ids: list[str], protocol: Protocol
) -> None:
    command = [sys.executable, "-c", FORKED, url(server, protocol), protocol, *ids[:3]]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout.split() == ["True", "0", "True"], run.stderr


@contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """`serve` gets each connection, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    caller, _ = listening.accept()
                except OSError:
                    return
                with caller:
                    serve(caller)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
def test_an_answer_that_never_ends_passes_the_deadline(beginning: bytes) -> None:
    left = threading.Event()

    def drip(caller: socket.socket) -> None:
        try:
            caller.sendall(beginning)
            while not left.wait(0.05):
                caller.sendall(b"H")
        except OSError:
            pass  # the client has hung up

    with raw_server(drip) as address:
        with Client(address, "http", timeout=0.5) as client, pytest.raises(DeadlineExceeded):
            client.recommend(["a"])
        left.set()


def test_a_connection_the_server_has_ended_is_not_used_again() -> None:
    closed = threading.Event()

    def answer_once(caller: socket.socket) -> None:
        caller.recv(65536)
        caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        caller.close()
        closed.set()

    with raw_server(answer_once) as address, Client(address, "http", timeout=60, retries=0) as client:
        for _ in range(3):
            assert client.ready()
            assert closed.wait(60)
            closed.clear()
