"""The door's process, as the keeper starts it: `python -m footfall_serving.door PARENT LISTENING SOCKET_FILE`."""

import asyncio
import ctypes
import os
import resource
import signal
import socket
import sys

import uvloop

from footfall_serving.door.http.connection import Callers, Connection
from footfall_serving.door.http.upstream import Upstream

BACKLOG = 1024
PR_SET_PDEATHSIG = 1


async def keep(listening: socket.socket, path: str) -> None:
    loop = asyncio.get_running_loop()
    callers = Callers(Upstream(path, loop), loop)
    await loop.create_server(lambda: Connection(callers), sock=listening, backlog=BACKLOG)
    while True:
        await asyncio.sleep(1)
        callers.refuse_slow()


def main() -> None:
    """PARENT is the process to end with, LISTENING the descriptor of the socket to take requests on."""
    parent, descriptor, path = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with socket.socket(fileno=int(descriptor)) as listening:
        uvloop.run(keep(listening, path))


if __name__ == "__main__":
    main()
