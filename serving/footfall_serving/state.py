"""ServerState: where the running server of a repository listens, for the verbs that talk to it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from footfall.errors import InputError
from footfall.folder import writing
from footfall_serving.lock import is_served

STATE_FILE = ".server.json"
INODE = "inode"
"""The state file's own, which is kept when it gets its name and is another's in a copy."""
EVERY_ADDRESS = "0.0.0.0"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ServerState:
    """`pid` is the server's own; `grpc_file` is the socket that its own gRPC listens on, behind the door;
    `repository_key` guards its repository API; its stubs' shared memory is named with `shm_prefix`.
    """

    pid: int
    bind: str
    http_port: int
    grpc_port: int
    metrics_port: int
    grpc_file: str
    repository_key: str
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
                json.dump({INODE: os.fstat(descriptor).st_ino, **asdict(state)}, file)
            aside.replace(repository / STATE_FILE)
        finally:
            aside.unlink(missing_ok=True)


def read_state(repository: Path) -> ServerState | None:
    """The repository's server; None where there is none, also while one that died is started again.

    Raises InputError where the file is not what `write_state` wrote.
    """
    state = last_state(repository)
    return state if is_served(repository) else None


def last_state(repository: Path) -> ServerState | None:
    """What is written of the repository's server, which may have been killed together with who supervised it; None in
    a copy of the repository, whose server is another's.
    """
    path = repository / STATE_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        return ServerState(**found) if found.pop(INODE) == path.stat().st_ino else None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} does not tell of a server of this Footfall; end the server that may run and remove the file"
        ) from error


def remove_state(repository: Path) -> None:
    (repository / STATE_FILE).unlink(missing_ok=True)
