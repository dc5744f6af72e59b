"""Ports: free ones found, taken ones named."""

import contextlib
import socket

import psutil

from footfall.errors import InputError

BACKLOG = 1024
LOOKS = 5


def free_port(bind: str) -> int:
    """A port nobody listens on at the moment. Raises InputError where `bind` is no IPv4 address of this machine."""
    with socket.socket() as probe:
        _bind(probe, bind, 0, f"{bind} cannot be listened on")
        port: int = probe.getsockname()[1]
        return port


def check_port(bind: str, port: int, purpose: str) -> None:
    """Raises InputError where another process listens on the port, naming it where the system tells."""
    listening(bind, port, purpose).close()


def listening(bind: str, port: int, purpose: str) -> socket.socket:
    """A socket that listens on the port, 0 for a free one. Raises InputError as `check_port`."""
    taken = socket.socket()
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(taken, bind, port, f"{purpose} port {port} on {bind} cannot be used")
        taken.listen(BACKLOG)
    except BaseException:
        taken.close()
        raise
    return taken


def _bind(probe: socket.socket, bind: str, port: int, sentence: str) -> None:
    try:
        probe.bind((bind, port))
    except (OSError, UnicodeError) as error:  # the latter of a name that can be no host's
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{sentence}: {reason}{_owner(port)}") from error


def _owner(port: int) -> str:
    """Looked for again where who was found is gone: a child has its parent's sockets until its own program runs."""
    for _ in range(LOOKS):
        with contextlib.suppress(psutil.Error):
            for connection in psutil.net_connections("tcp"):
                listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
                if listens and connection.pid:
                    return f", by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""
