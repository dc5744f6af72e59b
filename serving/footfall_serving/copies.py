"""Copies: what the door copies of requests while a version is tried, as messages that ask either version the same."""

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor, triton_to_np_dtype

from footfall.errors import NotReadyError
from footfall_serving.door.rollout import GRPC, HEAD_BYTES, rollout_file

READ_BYTES = 2**18
END_TIMEOUT_S = 5.0


class Copies:
    """The connection to the door. Use as a context manager: the rollout is on in its block, and over behind it."""

    def __init__(self, grpc_file: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = str(rollout_file(grpc_file))
        self._buffer = bytearray()

    def __enter__(self) -> "Copies":
        try:
            self._socket.connect(self._path)
        except OSError as error:
            self._socket.close()
            raise NotReadyError(f"the door of the server takes no rollout: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError), self._socket:
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(END_TIMEOUT_S)
            while self._socket.recv(READ_BYTES):
                pass

    def order(self, copied: float, sent: float, salt: str) -> None:
        """Have the door copy that share of the requests, and send that share of the users, drawn by `salt`, to the
        version that is tried.
        """
        try:
            self._socket.sendall(json.dumps({"copied": copied, "sent": sent, "salt": salt}).encode() + b"\n")
        except OSError as error:
            raise NotReadyError("the door ended") from error

    def take(self, seconds: float) -> Iterator[Any]:
        """The ModelInferRequests that come within the time, without a model's name and what it calls itself.

        Raises NotReadyError where the door has ended.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            found = _next(self._buffer)
            if found is not None:
                yield found
            elif select.select([self._socket], [], [], left)[0]:
                data = self._socket.recv(READ_BYTES)
                if not data:
                    raise NotReadyError("the door ended")
                self._buffer += data


def _next(buffer: bytearray) -> Any:
    if len(buffer) < HEAD_BYTES:
        return None
    length = int.from_bytes(buffer[1:5], "big")
    if len(buffer) < HEAD_BYTES + length:
        return None
    protocol, json_length = buffer[:1], int.from_bytes(buffer[5:9], "big")
    body = bytes(buffer[HEAD_BYTES : HEAD_BYTES + length])
    del buffer[: HEAD_BYTES + length]
    return _of_grpc(body) if protocol == GRPC else _of_http(body, json_length)


def _of_grpc(body: bytes) -> Any:
    asked = service_pb2.ModelInferRequest.FromString(body)
    message = service_pb2.ModelInferRequest(raw_input_contents=asked.raw_input_contents)
    for tensor in asked.inputs:
        added = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        added.contents.CopyFrom(tensor.contents)
    return message


def _of_http(body: bytes, json_length: int) -> Any:
    message, place = service_pb2.ModelInferRequest(), json_length
    for entry in json.loads(body[:json_length]).get("inputs", []):
        size = entry.get("parameters", {}).get("binary_data_size", 0)
        raw = body[place : place + size] if "data" not in entry else _raw(entry)
        place += size
        message.inputs.add(name=entry["name"], datatype=entry["datatype"], shape=entry["shape"])
        message.raw_input_contents.append(raw)
    return message


def _raw(entry: dict[str, Any]) -> bytes:
    if entry["datatype"] == "BYTES":
        texts = np.array(entry["data"], dtype=np.object_).ravel()
        return bytes(serialize_byte_tensor(texts).item()) if len(texts) else b""
    return bytes(np.array(entry["data"], dtype=triton_to_np_dtype(entry["datatype"])).tobytes())
