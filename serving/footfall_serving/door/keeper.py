"""Keeper: has the door open from before the server starts until after it ended, and opens it again where it died.

The listening socket is the keeper's own, so that callers who come while a new door starts wait for it.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from footfall.errors import InputError
from footfall_serving.ports import listening

LONGEST_SOCKET_PATH = 107
"""Bytes that the system takes."""
MAX_PAUSE_S = 5.0


@dataclass(frozen=True)
class Door:
    """`socket_file` is where the server's HTTP is to listen; its folder is its owner's alone."""

    port: int
    socket_file: Path
    keeper: "Keeper"


@contextlib.contextmanager
def open_door(bind: str, port: int, say: Callable[[str], None]) -> Iterator[Door]:
    """Take HTTP requests on the port, 0 for a free one, until the block ends. Raises InputError where it is taken."""
    with (
        listening(bind, port, "http") as taken,
        tempfile.TemporaryDirectory(prefix="footfall-") as folder,
    ):
        socket_file = Path(folder) / "http"
        if len(os.fsencode(socket_file)) > LONGEST_SOCKET_PATH:
            raise InputError(f"{folder} is too long for the name of a socket; set TMPDIR to a shorter one")
        keeper = Keeper(taken, socket_file, say)
        keeper.start()
        try:
            yield Door(taken.getsockname()[1], socket_file, keeper)
        finally:
            keeper.stop()


class Keeper(threading.Thread):
    """Runs until `stop`; says through `say` where the door had to be opened again."""

    def __init__(self, taken: socket.socket, socket_file: Path, say: Callable[[str], None]) -> None:
        super().__init__(name="door", daemon=True)
        self._taken, self._socket_file, self._say = taken, socket_file, say
        self._ended = threading.Event()
        self._process = self._open()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self._ended.set()
        self._process.terminate()
        self.join()

    def run(self) -> None:
        pause_s = 0.0
        while True:
            code = self._process.wait()
            if self._ended.wait(pause_s):
                return
            self._say(f"door: it ended with code {code}; it is opened again")
            pause_s = min(2 * pause_s + 0.5, MAX_PAUSE_S)
            self._process = self._open()
            if self._ended.is_set():
                self._process.terminate()

    def _open(self) -> subprocess.Popen[bytes]:
        words = [os.getpid(), self._taken.fileno(), self._socket_file]
        return subprocess.Popen(
            [sys.executable, "-m", "footfall_serving.door", *map(str, words)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # ctrl-C is for who keeps it
            pass_fds=[self._taken.fileno()],
        )
