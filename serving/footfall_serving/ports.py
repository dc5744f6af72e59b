"""Ports: free ones found, taken ones named."""

import contextlib
import socket

import psutil

from footfall.errors import InputError


def free_port(bind: str) -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((bind, 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(bind: str, port: int, purpose: str) -> None:
    """Raises InputError where another process listens on the port, naming it where the system tells."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            owner = _owner(port)
            raise InputError(
                f"{purpose} port {port} on {bind} cannot be used: {error.strerror}{owner}"
            ) from error


def _owner(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                return f", by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""
