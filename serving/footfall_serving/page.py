"""Page: all that there is to see of a server on one page for Prometheus: its own, the door's and the supervisor's.

It stays while the server is started again, and tells of it.
"""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from footfall.errors import FootfallError
from footfall_engines.repository import Repository
from footfall_serving.exposition import exposed
from footfall_serving.rollout import num_rolled_back, read_rollout

PATH = "/metrics"
PARTS = ("server", "stub", "door")
"""What is started again where it dies."""
TIMEOUT_S = 5.0
MAX_ASKERS = 16
"""At once; one more is not heard."""
REQUEST = b"GET /metrics HTTP/1.0\r\nHost: page\r\n\r\n"


class _Server(ThreadingHTTPServer):
    """Of a thread an asker, so that one who is slow keeps no other waiting."""

    daemon_threads = True
    room = threading.BoundedSemaphore(MAX_ASKERS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()


@contextlib.contextmanager
def shown(listener: socket.socket, say: Callable[[], str]) -> Iterator[None]:
    """Tell who asks on `listener` what `say` says, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != PATH:
                self.send_error(HTTPStatus.NOT_FOUND, f"there is only {PATH}")
                return
            text = say().encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *parts: Any) -> None:
            """Nothing."""

    server = _Server(listener.getsockname()[:2], Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    thread = threading.Thread(target=server.serve_forever, name="page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def told(path: Path, request: bytes = b"") -> str:
    """What is said on a socket file; "" where nobody is there. Over HTTP the body."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(TIMEOUT_S)
        asked.connect(str(path))
        if request:  # to send nothing fails where the other end has told all and closed
            asked.sendall(request)
        parts = []
        while part := asked.recv(2**16):
            parts.append(part)
        text = b"".join(parts)
        return (text.partition(b"\r\n\r\n")[2] if request else text).decode()
    return ""


def everything(repository: Path, server: Path, door: Path, restarts: Counter[str]) -> str:
    """`server` and `door` are the socket files on which they tell."""
    said = {"server": told(server, REQUEST), "door": told(door)}
    up = [({"part": part}, float(bool(text))) for part, text in said.items()]
    deaths = [({"part": part}, restarts[part]) for part in PARTS]
    return "".join(
        (
            *said.values(),
            exposed("footfall_up", "Whether it answers.", up),
            exposed("footfall_restarts_total", "Started again by who supervises.", deaths),
            _of_versions(repository),
        )
    )


def _of_versions(repository: Path) -> str:
    home = Repository(repository)
    try:
        live, promotions, rollout = home.live_number(), home.promotions(), read_rollout(repository)
        ended = num_rolled_back(repository)
    except (FootfallError, OSError):  # `footfall versions` tells
        return ""
    back = sum(bool(entry.get("back")) for entry in promotions)
    tried = [] if rollout is None else [({"version": str(rollout["version"])}, 1.0)]
    return "".join(
        (
            exposed("footfall_live_version", "Its number.", [({}, float(live or 0))]),
            exposed(
                "footfall_promotions_total",
                "Versions that became live, and how many of these by a rollback.",
                [({"back": "no"}, len(promotions) - back), ({"back": "yes"}, back)],
            ),
            exposed("footfall_rollout", "1 of the version that is tried.", tried),
            exposed("footfall_rollouts_ended_total", "Of versions that were not promoted.", [({}, ended)]),
        )
    )
