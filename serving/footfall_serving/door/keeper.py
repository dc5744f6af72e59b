"""Keeper: has the door open from before the server starts until after it ended, and opens it again where it died.

The listening sockets are the keeper's own, so that callers who come while a new door starts wait for it.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from footfall.errors import InputError
from footfall_serving.door.opening import Access, Opening, Tls
from footfall_serving.ports import listening
from footfall_serving.stubs import is_stopped

LONGEST_SOCKET_PATH = 107
"""Bytes that the system takes."""
GRPC_PORT = 1
"""The server puts one behind the name of its socket file."""
MAX_PAUSE_S = 5.0
LOOK_S = 1.0


@dataclass(frozen=True)
class Door:
    """The server is to listen on `http`, `grpc:1` and `metrics` in `folder`, which is its owner's alone."""

    http_port: int
    grpc_port: int
    folder: Path

    @property
    def http_file(self) -> Path:
        return self.folder / "http"

    @property
    def grpc_file(self) -> Path:
        return self.folder / f"grpc:{GRPC_PORT}"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics"


@contextlib.contextmanager
def open_door(
    bind: str,
    http_port: int,
    grpc_port: int,
    tls: Tls | None,
    max_inferences: int,
    say: Callable[[str], None],
    restarts: Counter[str],
    access: Access | None = None,
) -> Iterator[Door]:
    """Take requests on the ports, 0 for a free one, until the block ends. Raises InputError where one is taken."""
    with (
        listening(bind, http_port, "http") as http,
        listening(bind, grpc_port, "grpc") as grpc,
        tempfile.TemporaryDirectory(prefix="footfall-") as folder,
    ):
        door = Door(http.getsockname()[1], grpc.getsockname()[1], Path(folder))
        if len(os.fsencode(door.grpc_file)) > LONGEST_SOCKET_PATH:
            raise InputError(f"{folder} is too long for the name of a socket; set TMPDIR to a shorter one")
        files = str(door.http_file), str(door.grpc_file)
        opening = Opening(os.getpid(), http.fileno(), grpc.fileno(), *files, tls, max_inferences, access)
        keeper = Keeper(opening, say, restarts)
        keeper.start()
        try:
            yield door
        finally:
            keeper.stop()


class Keeper(threading.Thread):
    """Runs until `stop`; says through `say` where the door had to be opened again."""

    def __init__(self, opening: Opening, say: Callable[[str], None], restarts: Counter[str]) -> None:
        super().__init__(name="door", daemon=True)
        self._opening, self._say, self._restarts = opening, say, restarts
        self._ended = threading.Event()
        self._process = self._open()

    def stop(self) -> None:
        self._ended.set()
        self._process.terminate()
        self.join()

    def run(self) -> None:
        pause_s = 0.0
        while True:
            code = self._wait()
            if self._ended.wait(pause_s):
                return
            self._restarts["door"] += 1
            self._say(f"door: it ended with code {code}; it is opened again")
            pause_s = min(2 * pause_s + 0.5, MAX_PAUSE_S)
            self._process = self._open()
            if self._ended.is_set():
                self._process.terminate()

    def _wait(self) -> int:
        """For the door's end, which one that was stopped has to be brought to."""
        while True:
            try:
                return self._process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                if is_stopped(self._process.pid):
                    self._process.kill()

    def _open(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "footfall_serving.door", json.dumps(asdict(self._opening))],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # ctrl-C is for who keeps it
            pass_fds=[self._opening.http, self._opening.grpc],
        )
