"""Access: the access log, a JSON line an inference, or of a share of them. Never a user, an item or an action."""

import asyncio
import os
import random
from datetime import UTC, datetime
from typing import Any

import orjson

WRITTEN_AFTER_S = 0.1
MAX_WAITING = 10_000
"""Lines; more are lost, and counted, as those are that a full disk does not take."""


class AccessLog:
    """Appends, so that the file may be cut by who rotates it."""

    def __init__(self, path: str, share: float, loop: asyncio.AbstractEventLoop) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._share, self._loop = share, loop
        self._waiting: list[bytes] = []
        self.lost = 0

    def wants(self) -> bool:
        """Whether the next one is written."""
        return self._share >= 1 or random.random() < self._share

    def write(self, facts: dict[str, Any]) -> None:
        if not self._waiting:
            self._loop.call_later(WRITTEN_AFTER_S, self._flush)
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(orjson.dumps({"time": datetime.now(UTC)} | facts))
        else:
            self.lost += 1

    def _flush(self) -> None:
        lines, self._waiting = self._waiting, []
        text = b"\n".join([*lines, b""])
        try:
            written = os.write(self._file, text)
        except OSError:  # nobody is answered later for it
            written = 0
        self.lost += text.count(b"\n", written)
