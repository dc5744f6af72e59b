"""Server: NVIDIA Triton Inference Server on a model repository, from start to end."""

import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from footfall.contract import ENSEMBLE, KEY_HEADER
from footfall.errors import InputError, NotReadyError
from footfall_export.repository import live_number
from footfall_export.version import Version, version_folder
from footfall_serving.install import server_home
from footfall_serving.ports import check_port, free_port
from footfall_serving.state import ServerState, read_state, remove_state, write_state
from footfall_serving.stubs import live_stubs, remove_orphaned_regions
from footfall_serving.supervisor import Supervisor

LOG_FILE = ".server.log"
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 7.0
"""Given to SIGTERM before SIGKILL, so that the end takes less than 10 s even with a dead stub."""
PR_SET_PDEATHSIG = 1
RESTRICTED = "model-repository"


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


ANY_PORTS = ServeOptions(http_port=0, grpc_port=0, metrics_port=0)


@contextlib.contextmanager
def running_server(
    repository: Path, options: ServeOptions = ANY_PORTS, say: Callable[[str], None] = lambda line: None
) -> Iterator[ServerState]:
    """Serve the repository's live version until the block ends, supervised; yields once it is ready.

    Raises InputError where the repository has no whole live version or a port is taken, NotReadyError where the
    server does not come up.
    """
    _check_live(repository)
    state, process, prefix = _start(repository, options)
    try:
        _wait_until_ready(state, process, repository / LOG_FILE)
        write_state(repository, state)
        supervisor = Supervisor(repository, state, prefix, say)
        supervisor.start()
        try:
            yield state
        finally:
            supervisor.stop()
    finally:
        remove_state(repository)
        _stop(process, prefix)


def _check_live(repository: Path) -> None:
    number = live_number(repository)
    if number is None:
        raise InputError(f"{repository} has no live version; publish one: footfall publish VERSION_DIR")
    Version.open(version_folder(repository, number), verify=True)
    running = read_state(repository)
    if running is not None:
        raise InputError(
            f"{repository} is served already, on grpc {running.grpc_url} (process {running.pid})"
        )


def _start(repository: Path, options: ServeOptions) -> tuple[ServerState, subprocess.Popen[bytes], str]:
    ports = [_port(options, purpose) for purpose in ("http", "grpc", "metrics")]
    key = options.repository_key or secrets.token_urlsafe(24)
    prefix = f"footfall-{os.getpid()}-{ports[1]}-"
    command = _command(repository, options, ports, key, prefix)
    with (repository / LOG_FILE).open("wb") as log:
        process = subprocess.Popen(
            command,
            env=server_home().environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    http, grpc, metrics = ports
    root = options.grpc_tls_root or options.grpc_tls_cert
    state = ServerState(process.pid, options.bind, http, grpc, metrics, key, str(root) if root else None)
    return state, process, prefix


def _port(options: ServeOptions, purpose: str) -> int:
    port = int(getattr(options, f"{purpose}_port")) or free_port(options.bind)
    check_port(options.bind, port, purpose)
    return port


def _command(repository: Path, options: ServeOptions, ports: list[int], key: str, prefix: str) -> list[str]:
    home = server_home()
    http, grpc, metrics = ports
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
        *(f"--{name}-address={options.bind}" for name in ("http", "grpc", "metrics")),
        f"--http-port={http}",
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


def _wait_until_ready(state: ServerState, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
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
    except (urllib.error.URLError, OSError):
        return False


def _last_error(log: Path) -> str:
    """The log's last complaint, or its last line."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    complaints = [line for line in lines if " E " in line[:40] or "rror" in line]
    return (complaints or lines or [f"{log} is empty"])[-1]


def _stop(process: subprocess.Popen[bytes], prefix: str) -> None:
    """SIGTERM, then SIGKILL to what is left: a server with a dead stub does not end on SIGTERM alone."""
    stubs = [psutil.Process(stub.pid) for stub in live_stubs(process.pid)]
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    process.kill()
    process.wait()
    for stub in stubs:
        with contextlib.suppress(psutil.NoSuchProcess):
            stub.kill()
    remove_orphaned_regions(prefix, [])
