"""Rollout: while a version is tried, who publishes it is given copies of some requests, and some users ask it.

The door knows of it by its publisher's connection alone, to a socket file beside the server's, and it lasts as long
as that: nobody has to end what a killed publisher began. Copies are in memory only, and none is made while the
publisher has not read enough of the ones before.
"""

import asyncio
import hashlib
import json
import random
from pathlib import Path
from typing import cast

from footfall.contract import CANDIDATE_ENSEMBLE, ENSEMBLE

MAX_UNREAD_BYTES = 2**20
"""Of copies that the publisher has not read."""
GRPC, HTTP = b"G", b"H"
HEAD_BYTES = 9
"""Before a copy: its protocol, its length and the length of what is JSON of it."""
NAMED = b"\n\x08" + ENSEMBLE.encode()
"""How a message over gRPC begins that names the live ensemble."""
PATH = b"/v2/models/" + ENSEMBLE.encode()
CANDIDATE = CANDIDATE_ENSEMBLE.encode()
"""As long as the other's name, so that one takes the place of the other in a message."""


def rollout_file(grpc_file: str) -> Path:
    """Beside the server's socket, in the door's folder."""
    return Path(grpc_file).with_name("rollout")


def renamed(data: bytes, place: int) -> bytes:
    """With the candidate's name in the message over gRPC that begins at `place` with NAMED."""
    name = place + len(NAMED) - len(CANDIDATE)
    return data[:name] + CANDIDATE + data[name + len(CANDIDATE) :]


class Rollout(asyncio.Protocol):
    """`is_on` while a publisher is there; each line that he sends says anew what share is copied, what share of users
    is sent to his version, and by what salt they are drawn.
    """

    def __init__(self) -> None:
        self.is_on = False
        self._copied = self._sent = 0.0
        self._salt = b""
        self._transport: asyncio.Transport | None = None
        self._line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._transport, self._line = cast(asyncio.Transport, transport), b""
        self.is_on, self._copied, self._sent = True, 0.0, 0.0

    def eof_received(self) -> None:
        """The publisher's end of it; that the connection is closed then tells him that nobody is sent any more."""
        self.is_on = False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_on, self._transport = False, None

    def data_received(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        if lines:
            orders = json.loads(lines[-1])
            self._copied, self._sent = orders["copied"], orders["sent"]
            self._salt = orders["salt"].encode()

    def sends(self, who: bytes) -> bool:
        """Whether the version that is tried answers him: the same version each time; nobody is drawn anew."""
        if not who:
            return random.random() < self._sent
        drawn = hashlib.blake2b(who, digest_size=8, key=self._salt).digest()
        return int.from_bytes(drawn) < self._sent * 2**64

    def copy(self, protocol: bytes, body: bytes, json_length: int) -> None:
        """One that was judged to be harmless."""
        if self._transport is None or random.random() >= self._copied:
            return
        if self._transport.get_write_buffer_size() < MAX_UNREAD_BYTES:
            lengths = len(body).to_bytes(4, "big") + json_length.to_bytes(4, "big")
            self._transport.write(protocol + lengths + body)
