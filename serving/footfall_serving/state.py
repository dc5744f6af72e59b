"""ServerState: where the running server of a repository listens, for the verbs that talk to it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

STATE_FILE = ".server.json"


@dataclass(frozen=True)
class ServerState:
    """`pid` is the server's own; `tls_root` signs its certificate; `repository_key` guards its repository API."""

    pid: int
    bind: str
    http_port: int
    grpc_port: int
    metrics_port: int
    repository_key: str
    tls_root: str | None

    @property
    def http_url(self) -> str:
        return f"{self.bind}:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        return f"{self.bind}:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"{self.bind}:{self.metrics_port}"


def write_state(repository: Path, state: ServerState) -> None:
    """Readable by its owner alone, for it holds the key."""
    aside = repository / f"{STATE_FILE}.partial"
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(state), file)
    aside.replace(repository / STATE_FILE)


def read_state(repository: Path) -> ServerState | None:
    """The repository's running server; None where there is none, also after one that was killed."""
    path = repository / STATE_FILE
    if not path.is_file():
        return None
    state = ServerState(**json.loads(path.read_text()))
    return state if is_running(state.pid) else None


def is_running(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name() == "tritonserver" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def remove_state(repository: Path) -> None:
    (repository / STATE_FILE).unlink(missing_ok=True)
