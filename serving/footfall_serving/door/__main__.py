"""The door's process, as the keeper starts it: `python -m footfall_serving.door OPENING`, the latter as JSON."""

import asyncio
import ctypes
import json
import os
import resource
import signal
import socket
import ssl
import sys

import uvloop

from footfall_serving.door.access import AccessLog
from footfall_serving.door.callers import Callers
from footfall_serving.door.grpc.connection import Connection as GrpcConnection
from footfall_serving.door.grpc.upstream import Upstream as GrpcUpstream
from footfall_serving.door.http.connection import Connection as HttpConnection
from footfall_serving.door.http.upstream import Upstream as HttpUpstream
from footfall_serving.door.opening import Opening
from footfall_serving.door.rollout import rollout_file
from footfall_serving.door.seen import Told, seen_file

BACKLOG = 1024
PR_SET_PDEATHSIG = 1
HANDSHAKE_S = 10.0


async def keep(opening: Opening) -> None:
    loop = asyncio.get_running_loop()
    callers = Callers(loop, opening.max_inferences, opening.grpc_file)
    http_upstream = HttpUpstream(opening.http_file, loop)
    grpc_upstream = GrpcUpstream(callers, opening.grpc_file)
    if opening.access is not None:
        callers.seen.access = AccessLog(*opening.access, loop)
    http, grpc = socket.socket(fileno=opening.http), socket.socket(fileno=opening.grpc)
    await loop.create_server(lambda: HttpConnection(callers, http_upstream), sock=http, backlog=BACKLOG)
    await loop.create_server(
        lambda: GrpcConnection(callers, grpc_upstream),
        sock=grpc,
        backlog=BACKLOG,
        ssl=None if opening.tls is None else _context(*opening.tls),
        ssl_handshake_timeout=None if opening.tls is None else HANDSHAKE_S,
    )
    rollout = rollout_file(opening.grpc_file)
    rollout.unlink(missing_ok=True)  # of a door that died
    await loop.create_unix_server(lambda: callers.rollout, str(rollout))
    seen = seen_file(opening.grpc_file)
    seen.unlink(missing_ok=True)
    await loop.create_unix_server(lambda: Told(callers.text), str(seen))
    while not callers.drain():
        await asyncio.sleep(1)
        callers.look()
    # The keeper's too: who comes now is refused by the system, and goes elsewhere.
    for listens in (http, grpc):
        listens.shutdown(socket.SHUT_RDWR)
    callers.tell_drained()
    await asyncio.Event().wait()  # what was written is still being read


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    return context


def main() -> None:
    opening = Opening(**json.loads(sys.argv[1]))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != opening.parent:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(keep(opening))


if __name__ == "__main__":
    main()
