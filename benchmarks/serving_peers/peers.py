"""Peers: the services that are measured, and how each is started and ended."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from footfall_serving.server import running_server

HERE = Path(__file__).parent
READY_TIMEOUT_S = 120.0
WORKERS = "2"


@dataclass(frozen=True)
class Peer:
    """command: words after the interpreter's own, PORT for the port; graph: see fastapi_onnx.py."""

    name: str
    command: tuple[str, ...]
    graph: str = "plain"

    @contextlib.contextmanager
    def serving(self, place: Path) -> Iterator[str]:
        """Its host and port, until the block ends."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        words = [port if word == "PORT" else word for word in self.command]
        environment = os.environ | {
            "PEER_PLACE": str(place),
            "PEER_GRAPH": self.graph,
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            [sys.executable, *words], cwd=HERE, env=environment, start_new_session=True
        )
        try:
            wait_until_ready(f"127.0.0.1:{port}", process)
            yield f"127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Footfall:
    """The repository that run.py made, by the real server with its defaults."""

    name = "Footfall"

    @contextlib.contextmanager
    def serving(self, place: Path) -> Iterator[str]:
        with running_server(place / "model_repository") as server:
            yield server.http_url


def uvicorn(module: str) -> tuple[str, ...]:
    return ("-m", "uvicorn", f"{module}:app", "--workers", WORKERS, "--port", "PORT", "--no-access-log")


PEERS: tuple[Peer | Footfall, ...] = (
    Footfall(),
    Peer("FastAPI + ONNX Runtime, plain graph", uvicorn("fastapi_onnx")),
    Peer("FastAPI + ONNX Runtime, our engine file", uvicorn("fastapi_onnx"), graph="engine"),
    Peer("FastAPI + torch eager", uvicorn("fastapi_torch")),
    Peer("LitServe, batching", ("litserve_batching.py", "PORT")),
)


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if is_ready(url):
            return
        time.sleep(0.2)
    raise SystemExit(f"a peer did not come up: {process.args!r}")


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{url}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
