"""Server: NVIDIA Triton Inference Server on a model repository, from start to end."""

import contextlib
import ctypes
import http.client
import os
import secrets
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from footfall.contract import ENSEMBLE, KEY_HEADER
from footfall.errors import InputError, NotReadyError
from footfall.folder import writing
from footfall_engines.repository import Repository
from footfall_serving.door.keeper import Door, open_door
from footfall_serving.install import server_home
from footfall_serving.lock import locked
from footfall_serving.ports import check_port, free_port
from footfall_serving.state import ServerState, read_state, remove_state, write_state
from footfall_serving.stubs import live_stubs, remove_orphaned_regions
from footfall_serving.supervisor import Supervisor
from footfall_serving.tls import certificate_name

LOG_FILE = ".server.log"
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 7.0
"""Given to SIGTERM before SIGKILL, so that the end takes less than 10 s even with a dead stub."""
PR_SET_PDEATHSIG = 1
RESTRICTED = "model-repository,logging,trace,shared-memory"
"""What changes the server or reads its memory, as its options name it; it takes the key."""
MAX_PORT = 2**16 - 1
PURPOSES = ("http", "grpc", "metrics")


class Ended(Exception):
    """The server was to end before it was ready; it has."""


@dataclass(frozen=True)
class ServeOptions:
    """A port of 0 means a free one. `grpc_tls_*` are PEM files; `repository_key` None means a random one."""

    bind: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    grpc_tls_cert: Path | None = None
    grpc_tls_key: Path | None = None
    grpc_tls_root: Path | None = None
    repository_key: str | None = None

    def __post_init__(self) -> None:
        if (self.grpc_tls_cert is None) != (self.grpc_tls_key is None):
            raise InputError("TLS needs both a certificate and its key; one of the two is missing")
        for path in (self.grpc_tls_cert, self.grpc_tls_key, self.grpc_tls_root):
            if path is not None and not path.is_file():
                raise InputError(f"the TLS file {path} does not exist")
        purposes: dict[int, str] = {}
        for purpose, port in zip(PURPOSES, (self.http_port, self.grpc_port, self.metrics_port), strict=True):
            if not 0 <= port <= MAX_PORT:
                raise InputError(f"{purpose} port {port} is not in 0..{MAX_PORT}")
            if port and port in purposes:
                raise InputError(f"{purposes[port]} and {purpose} cannot both have port {port}")
            purposes[port] = purpose


ANY_PORTS = ServeOptions(http_port=0, grpc_port=0, metrics_port=0)


@contextlib.contextmanager
def running_server(
    repository: Path,
    options: ServeOptions = ANY_PORTS,
    say: Callable[[str], None] = lambda line: None,
    ended: Callable[[], bool] = lambda: False,
) -> Iterator[ServerState]:
    """Serve the repository's live version until the block ends, supervised; yields once it is ready.

    Raises InputError where the repository has no whole live version or a port is taken, NotReadyError where the
    server does not come up, Ended where `ended` is true before it does.
    """
    _live_number(repository)
    with contextlib.ExitStack() as stack:
        with locked(repository):
            _pin_live(repository)
            door = stack.enter_context(open_door(options.bind, options.http_port, say))
            state, process = _start(repository, options, door)
            stack.callback(_stop, process, state)
            _wait_until_ready(state, process, repository / LOG_FILE, ended)
            stack.callback(remove_state, repository)
            write_state(repository, state)
        supervisor = Supervisor(repository, state, say)
        supervisor.start()
        stack.callback(supervisor.stop)
        yield state


def _live_number(repository: Path) -> int:
    number = Repository(repository).live_number()
    if number is None:
        raise InputError(f"{repository} has no live version; publish one: footfall publish VERSION_DIR")
    return number


def _pin_live(repository: Path) -> None:
    """Have the server load the live version alone: one that was loaded beside it may be one that does not load."""
    live = Repository(repository).version(_live_number(repository), verify=True)
    running = read_state(repository)
    if running is not None:
        raise InputError(
            f"{repository} is served already, on grpc {running.grpc_url} (process {running.pid})"
        )
    Repository(repository).write_step_configs([live])


def _start(
    repository: Path, options: ServeOptions, door: Door
) -> tuple[ServerState, subprocess.Popen[bytes]]:
    grpc, metrics = ports = [_port(options, purpose) for purpose in ("grpc", "metrics")]
    key = options.repository_key or secrets.token_urlsafe(24)
    prefix = f"footfall-{os.getpid()}-{grpc}-"
    root, name = None, None
    if options.grpc_tls_cert is not None and options.grpc_tls_key is not None:
        root = (options.grpc_tls_root or options.grpc_tls_cert).resolve()
        name = certificate_name(options.grpc_tls_cert, options.grpc_tls_key, root)
    command = _command(repository, options, door, ports, key, prefix)
    with writing(repository / LOG_FILE):
        log = (repository / LOG_FILE).open("wb")
    with log:
        process = subprocess.Popen(
            command,
            env=server_home().environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    trusted = None if root is None else str(root)
    return ServerState(
        process.pid, options.bind, door.port, grpc, metrics, key, trusted, name, prefix
    ), process


def _port(options: ServeOptions, purpose: str) -> int:
    port = int(getattr(options, f"{purpose}_port")) or free_port(options.bind)
    check_port(options.bind, port, purpose)
    return port


def _command(
    repository: Path, options: ServeOptions, door: Door, ports: list[int], key: str, prefix: str
) -> list[str]:
    home = server_home()
    grpc, metrics = ports
    tls = []
    if options.grpc_tls_cert is not None:
        tls = ["--grpc-use-ssl=true", f"--grpc-server-cert={options.grpc_tls_cert}"]
        tls += [f"--grpc-server-key={options.grpc_tls_key}"]
        tls += [f"--grpc-root-cert={options.grpc_tls_root}"] if options.grpc_tls_root else []
    return [
        str(home.binary),
        f"--model-repository={repository.resolve()}",
        f"--backend-directory={home.backends}",
        "--model-control-mode=explicit",
        f"--load-model={ENSEMBLE}",
        "--disable-auto-complete-config",
        f"--http-address=unix:{door.socket_file}",
        *(f"--{name}-address={options.bind}" for name in ("grpc", "metrics")),
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
        f"--http-restricted-api={RESTRICTED}:{KEY_HEADER}={key}",
        f"--grpc-restricted-protocol={RESTRICTED}:{KEY_HEADER}={key}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        f"--exit-timeout-secs={int(STOP_TIMEOUT_S) - 2}",
        "--log-format=ISO8601",
        *tls,
    ]


def _end_with_parent() -> None:
    """In the child: have the kernel send SIGTERM when the process that supervises it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_ready(
    state: ServerState, process: subprocess.Popen[bytes], log: Path, ended: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if ended():
            raise Ended
        if process.poll() is not None:
            raise NotReadyError(f"the server ended with code {process.returncode}: {_last_error(log)}")
        if _is_ready(state):
            return
        time.sleep(0.1)
    raise NotReadyError(f"the server was not ready within {READY_TIMEOUT_S:.0f} s: {_last_error(log)}")


def _is_ready(state: ServerState) -> bool:
    url = f"http://{state.http_url}/v2/models/{ENSEMBLE}/ready"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):  # nobody listens yet, or another process for a moment
        return False


def _last_error(log: Path) -> str:
    """The log's last complaint, or its last line."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    complaints = [line for line in lines if " E " in line[:40] or "rror" in line]
    return (complaints or lines or [f"{log} is empty"])[-1]


def _stop(process: subprocess.Popen[bytes], state: ServerState) -> None:
    """SIGTERM, then SIGKILL to what is left: with a dead stub, or while it loads, a server takes no SIGTERM."""
    stubs = _stubs(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    stubs |= _stubs(process.pid)  # of what was loaded meanwhile
    process.kill()
    process.wait()
    for stub in stubs:
        with contextlib.suppress(psutil.NoSuchProcess):
            stub.kill()
    remove_orphaned_regions(state.shm_prefix, [])


def _stubs(pid: int) -> set[psutil.Process]:
    found = set()
    for stub in live_stubs(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(psutil.Process(stub.pid))
    return found
