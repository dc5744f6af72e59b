"""Server: NVIDIA Triton Inference Server on a model repository, from start to end."""

import contextlib
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from footfall.contract import ENSEMBLE, KEY_HEADER
from footfall.errors import InputError
from footfall.folder import writing
from footfall_engines.repository import Repository
from footfall_serving.door.keeper import GRPC_PORT, Door, open_door
from footfall_serving.door.opening import Access, Tls
from footfall_serving.door.seen import seen_file
from footfall_serving.install import server_home
from footfall_serving.launch import LOG_FILE, Launch, live_number
from footfall_serving.lock import BusyError, served
from footfall_serving.options import ServeOptions
from footfall_serving.page import everything, shown
from footfall_serving.ports import listening
from footfall_serving.process import STOP_TIMEOUT_S, end_all
from footfall_serving.response_cache import check_keeps, variables
from footfall_serving.state import ServerState, last_state, read_state, remove_state
from footfall_serving.supervisor import Supervisor
from footfall_serving.tls import check_certificate

RESTRICTED = "model-repository,logging,trace,shared-memory,statistics"
"""What changes the server, reads its memory or tells who asks how much, as its options name it; it takes the key."""


ANY_PORTS = ServeOptions(http_port=0, grpc_port=0, metrics_port=0)


@contextlib.contextmanager
def running_server(
    repository: Path,
    options: ServeOptions = ANY_PORTS,
    say: Callable[[str], None] = lambda line: None,
    ended: Callable[[], bool] = lambda: False,
) -> Iterator[ServerState]:
    """Serve the repository's live version until the block ends, supervised; yields once it has given an answer.

    A server that dies is started again on the same ports; its process is then another than the one yielded. Raises
    InputError where the repository has no whole live version, is served already or a port is taken, NotReadyError
    where the server does not come up, Ended where `ended` is true before it does.
    """
    live = live_number(repository)
    if options.response_cache_mib:
        check_keeps(Repository(repository).version(live))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(served(repository))
        except BusyError as error:
            raise InputError(f"{error}{_where(repository)}") from error
        _end_what_is_left(repository)
        ports, restarts = (options.http_port, options.grpc_port), Counter[str]()
        door = stack.enter_context(
            open_door(
                options.bind,
                *ports,
                _tls(options),
                options.max_inferences,
                say,
                restarts,
                _access(options),
            )
        )
        page = stack.enter_context(listening(options.bind, options.metrics_port, "metrics"))
        sockets = door.metrics_file, seen_file(str(door.grpc_file))
        stack.enter_context(shown(page, partial(everything, repository, *sockets, restarts)))
        folders = stack.enter_context(_open_folders(repository, server_home().backends, door.folder))
        launch = _launch(repository, options, door, page.getsockname()[1], folders)
        running = launch.bring_up(ended)
        supervisor = Supervisor(launch, running, say, restarts)
        supervisor.start()
        stack.callback(supervisor.stop)
        yield running.state


def _end_what_is_left(repository: Path) -> None:
    """Of a server whose supervisor was killed: it may be deaf to the SIGTERM that it was sent then."""
    left = last_state(repository)
    if left is not None:
        end_all(left.shm_prefix)
        remove_state(repository)
    with writing(repository / LOG_FILE):
        (repository / LOG_FILE).unlink(missing_ok=True)


def _where(repository: Path) -> str:
    state = read_state(repository)
    return "" if state is None else f", on grpc {state.grpc_url} (process {state.pid})"


@contextlib.contextmanager
def _open_folders(*folders: Path) -> Iterator[tuple[int, ...]]:
    """Descriptors for the server to name its folders by.

    It starts a stub by a shell's command line in which it quotes nothing, and a stub reads paths by the locale: a
    path with a space, a quote or a letter beyond ASCII ended it. /proc/self/fd/N has none of them. And it takes
    the address of its gRPC for a URI.
    """
    with contextlib.ExitStack() as stack:
        descriptors = []
        for folder in folders:
            descriptors.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
            stack.callback(os.close, descriptors[-1])
        yield tuple(descriptors)


def _access(options: ServeOptions) -> Access | None:
    return None if options.access_log is None else (str(options.access_log), options.access_share)


def _launch(
    repository: Path, options: ServeOptions, door: Door, metrics: int, folders: tuple[int, ...]
) -> Launch:
    key = options.repository_key or secrets.token_urlsafe(24)
    # Random: two containers that share /dev/shm may well have the same process ids and ports.
    prefix = f"footfall-{secrets.token_hex(8)}-"
    state = ServerState(
        0, options.bind, door.http_port, door.grpc_port, metrics, str(door.grpc_file), key, prefix
    )
    files = (door.http_file, door.grpc_file, door.metrics_file)
    command = (*_command(state, folders), *_tracing(options))
    return Launch(repository, command, folders, files, state, variables(options.response_cache_mib))


def _tls(options: ServeOptions) -> Tls | None:
    """What the door takes TLS with. Raises InputError where its files do not go together."""
    certificate, key = options.grpc_tls_cert, options.grpc_tls_key
    if certificate is None or key is None:
        return None
    check_certificate(certificate, key, options.grpc_tls_root or certificate)
    return str(certificate), str(key)


def _tracing(options: ServeOptions) -> list[str]:
    if options.otlp_url is None:
        return []
    settings = {"mode": "opentelemetry", "level": "TIMESTAMPS", "rate": str(round(1 / options.trace_share))}
    otlp = {"url": options.otlp_url, "resource": "service.name=footfall"}
    return [
        *(f"--trace-config={name}={value}" for name, value in settings.items()),
        *(f"--trace-config=opentelemetry,{name}={value}" for name, value in otlp.items()),
    ]


def _command(state: ServerState, folders: Sequence[int]) -> list[str]:
    repository, backends, sockets = folders
    return [
        str(server_home().binary),
        f"--model-repository=/proc/self/fd/{repository}",
        f"--backend-directory=/proc/self/fd/{backends}",
        "--model-control-mode=explicit",
        f"--load-model={ENSEMBLE}",
        "--disable-auto-complete-config",
        f"--http-address=unix:/proc/self/fd/{sockets}/http",
        f"--grpc-address=unix:/proc/self/fd/{sockets}/grpc",
        f"--grpc-port={GRPC_PORT}",
        "--grpc-http2-max-ping-strikes=0",  # the door pings for each call that it refuses
        f"--metrics-address=unix:/proc/self/fd/{sockets}/metrics",
        f"--http-restricted-api={RESTRICTED}:{KEY_HEADER}={state.repository_key}",
        f"--grpc-restricted-protocol={RESTRICTED}:{KEY_HEADER}={state.repository_key}",
        f"--backend-config=python,shm-region-prefix-name={state.shm_prefix}",
        f"--exit-timeout-secs={int(STOP_TIMEOUT_S) - 2}",
        "--log-format=ISO8601",
    ]
