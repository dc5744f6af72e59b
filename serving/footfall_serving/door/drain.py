"""Drain: before it ends, the door says that it is not ready, still answers who comes, and sends them elsewhere.

Files beside the sockets say that it is to, and that nobody comes any more. A proxy that asks whether it is ready
needs less than QUIET_S to see that it is not; who comes without one is told with his answers (HTTP) or on his
connection (gRPC) to make another.
"""

import time
from collections.abc import Callable
from pathlib import Path

QUIET_S = 3.0
"""Without an inference, and with nothing under way, until nobody is taken to come any more."""
LOOK_S = 0.05


def drain_file(grpc_file: str) -> Path:
    """Beside the server's socket, in the door's folder."""
    return Path(grpc_file).with_name("drain")


def drained_file(grpc_file: str) -> Path:
    """The door's answer."""
    return Path(grpc_file).with_name("drained")


def drain(grpc_file: str, seconds: float, hurried: Callable[[], bool] = lambda: False) -> bool:
    """Whether nobody comes any more; False after `seconds`, or once `hurried` is true."""
    drain_file(grpc_file).touch()
    deadline = time.monotonic() + seconds
    while not (drained := drained_file(grpc_file).exists()) and time.monotonic() < deadline and not hurried():
        time.sleep(LOOK_S)
    return drained
