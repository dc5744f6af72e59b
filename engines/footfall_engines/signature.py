"""Signature: proof that what a step of the ensemble is handed comes from the step before it, whole and unaltered.

The server answers anybody who asks a step by its name, over gRPC and HTTP, and has no setting against it. So the
steps share a secret, and ranker and postprocess answer only what the step before them signed.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from hmac import compare_digest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import ENGINE_INPUTS
from footfall.errors import InputError
from footfall.folder import replacing

KEY_FILE = ".step.key"
KEY_BYTES = 32
SIGNATURE_BYTES = 16


def ensure_key(repository: Path) -> None:
    """Make the repository's secret, readable by its owner alone, where it has none yet."""
    path = repository / KEY_FILE
    aside = path.with_name(f"{KEY_FILE}.{os.getpid()}")
    if path.exists():
        return
    with replacing(path):
        try:
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def request_parts(row: Mapping[str, NDArray[Any]], user: bytes) -> list[NDArray[Any] | bytes]:
    """What preprocess signs for the ranker: contract.ENGINE_INPUTS without batch axis, and who asks."""
    return [*(row[tensor.name] for tensor in ENGINE_INPUTS), user]


class Signer:
    """Signs and checks what goes from one step to the next; `purpose` keeps what one step signs from another."""

    def __init__(self, repository: Path, purpose: str) -> None:
        key = (repository / KEY_FILE).read_bytes()
        if len(key) != KEY_BYTES:
            raise InputError(f"{repository / KEY_FILE} has {len(key)} bytes, a key has {KEY_BYTES}")
        self._keyed = hashlib.blake2b(key=key, digest_size=SIGNATURE_BYTES, person=purpose.encode())

    def sign(self, parts: Iterable[NDArray[Any] | bytes]) -> NDArray[np.int64]:
        """int64 [2], of the parts' bytes and lengths."""
        return np.frombuffer(self._digest(parts), dtype=np.int64)

    def check(self, parts: Iterable[NDArray[Any] | bytes], signature: NDArray[np.int64]) -> None:
        """Raises InputError where `signature` is not what `sign` gives for these parts."""
        if not compare_digest(self._digest(parts), signature.tobytes()):
            raise InputError("this model answers only the steps of the ensemble before it: ask footfall")

    def _digest(self, parts: Iterable[NDArray[Any] | bytes]) -> bytes:
        digest = self._keyed.copy()
        for part in parts:
            blob = part if isinstance(part, bytes) else part.tobytes()
            digest.update(len(blob).to_bytes(8, "little"))
            digest.update(blob)
        return digest.digest()
