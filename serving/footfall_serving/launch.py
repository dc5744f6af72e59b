"""Launch: how the server of a repository is brought up, the first time and each time that it died."""

import dataclasses
import http.client
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from footfall.contract import ENSEMBLE
from footfall.errors import InputError, NotReadyError
from footfall_engines.repository import Repository
from footfall_engines.version import Version
from footfall_serving.bytecode import compile_adaptors
from footfall_serving.heartbeat import Heartbeat
from footfall_serving.lock import locked
from footfall_serving.process import ServerProcess
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.state import ServerState, write_state

LOG_FILE = ".server.log"
READY_TIMEOUT_S = 120.0

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The server is on this machine, which a proxy of the environment cannot reach."""


class Ended(Exception):
    """The server was to end before it was ready; it has."""


@dataclass(frozen=True)
class Running:
    """A server that has given a real answer."""

    process: ServerProcess
    state: ServerState
    version: Version


@dataclass(frozen=True)
class Launch:
    """`state` is what the server will have, whatever its process; `files` the descriptors that `command` names,
    `sockets` the files that it listens on, and `variables` what its environment has beside the usual.
    """

    repository: Path
    command: tuple[str, ...]
    files: tuple[int, ...]
    sockets: tuple[Path, ...]
    state: ServerState
    variables: Mapping[str, str]

    def bring_up(self, ended: Callable[[], bool], wait_s: float = 0.0) -> Running:
        """Start the server on the live version, have it answer, tell the verbs of it; under the repository's lock.

        Raises InputError where the live version is not whole or the lock is not free within `wait_s`,
        NotReadyError where the server does not come up, Ended where `ended` is true before it has.
        """
        with locked(self.repository, wait_s):
            version = pin_live(self.repository)
            for socket_file in self.sockets:  # a dead server's is in the way of the next
                socket_file.unlink(missing_ok=True)
            log, prefix = self.repository / LOG_FILE, self.state.shm_prefix
            process = ServerProcess(self.command, self.files, log, prefix, self.variables)
            state = dataclasses.replace(self.state, pid=process.pid)
            try:
                _wait_until_ready(state, process, ended)
                with RepositoryApi(state) as api:
                    answering = _first_answer(Heartbeat(api, version), ended)
                if answering != version.number:
                    raise NotReadyError(f"version {answering} answers where {version.number} is live")
                write_state(self.repository, state)
            except BaseException:
                process.end()
                raise
        return Running(process, state, version)


def live_number(repository: Path) -> int:
    number = Repository(repository).live_number()
    if number is None:
        raise InputError(f"{repository} has no live version; publish one: footfall publish VERSION_DIR")
    return number


def pin_live(repository: Path) -> Version:
    """Have the server load the live version alone: one that was loaded beside it may be one that does not load.

    By configurations written anew: those on disk may be of a Footfall whose steps hand on other tensors.
    """
    number = live_number(repository)
    try:
        live = Repository(repository).version(number, verify=True)
    except InputError as error:
        raise InputError(f"{error}; version {number} is live: go back by `footfall rollback`") from error
    Repository(repository).write_configs([live], live)
    Repository(repository).write_adaptors(number, live.steps)
    compile_adaptors(Repository(repository), number)
    return live


def _wait_until_ready(state: ServerState, process: ServerProcess, ended: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if ended():
            raise Ended
        if (how := process.died()) is not None:
            raise NotReadyError(f"the server {how}")
        if _is_ready(state):
            return
        time.sleep(0.1)
    raise NotReadyError(f"the server was not ready within {READY_TIMEOUT_S:.0f} s: {process.last_error()}")


def _first_answer(heart: Heartbeat, ended: Callable[[], bool]) -> int:
    """The version that gives it: on a busy machine a large model's takes longer than any later one."""
    answer = heart.send(READY_TIMEOUT_S)
    while not answer.done():
        if ended():
            raise Ended
        time.sleep(0.02)
    return answer.result()


def _is_ready(state: ServerState) -> bool:
    url = f"http://{state.http_url}/v2/models/{ENSEMBLE}/ready"
    try:
        with NO_PROXY.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):  # nobody listens yet, or another process for a moment
        return False
