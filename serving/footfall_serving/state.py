"""ServerState: where the running server of a repository listens, for the verbs that talk to it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from footfall.errors import InputError
from footfall.folder import writing

STATE_FILE = ".server.json"
EVERY_ADDRESS = "0.0.0.0"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ServerState:
    """`pid` is the server's own; `tls_root` signs its certificate, which bears `tls_name`; `repository_key` guards
    its repository API; its stubs' shared memory is named with `shm_prefix`.
    """

    pid: int
    bind: str
    http_port: int
    grpc_port: int
    metrics_port: int
    repository_key: str
    tls_root: str | None
    tls_name: str | None
    shm_prefix: str

    @property
    def host(self) -> str:
        """Where this machine reaches it: a server that listens on every address has none to connect to."""
        return LOOPBACK if self.bind == EVERY_ADDRESS else self.bind

    @property
    def http_url(self) -> str:
        return f"{self.host}:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        return f"{self.host}:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"{self.host}:{self.metrics_port}"


def write_state(repository: Path, state: ServerState) -> None:
    """Readable by its owner alone, for it holds the key."""
    aside = repository / f"{STATE_FILE}.partial"
    with writing(repository / STATE_FILE):
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(state), file)
            aside.replace(repository / STATE_FILE)
        finally:
            aside.unlink(missing_ok=True)


def read_state(repository: Path) -> ServerState | None:
    """The repository's running server; None where there is none, also after one that was killed.

    Raises InputError where the file is not what `write_state` wrote.
    """
    path = repository / STATE_FILE
    if not path.is_file():
        return None
    try:
        state = ServerState(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path} does not tell of a server of this Footfall; end the server that may run and remove the file"
        ) from error
    return state if is_running(state.pid) else None


def is_running(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name() == "tritonserver" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def remove_state(repository: Path) -> None:
    (repository / STATE_FILE).unlink(missing_ok=True)
