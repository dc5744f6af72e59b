"""gRPC by hand, over HTTP/2 frames of any kind, for requests that no library of gRPC would send."""

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
from tritonclient.grpc import service_pb2

INFER, STREAM_INFER = "ModelInfer", "ModelStreamInfer"
FRAME_BYTES = 2**14


@dataclass
class Answer:
    """`status` None while the call has not ended; `body` what came before."""

    status: int | None = None
    sentence: str = ""
    body: bytes = b""
    headers: list[dict[str, str]] = field(default_factory=list)

    def response(self) -> service_pb2.ModelInferResponse:
        return service_pb2.ModelInferResponse.FromString(self.body[5:])


def message(body: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """With gRPC's prefix, which may lie."""
    return bytes([compressed]) + (len(body) if length is None else length).to_bytes(4, "big") + body


class RawGrpc:
    """One connection; use as a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._line = socket.create_connection((host, port), timeout=30)
        self._line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.answers: dict[int, Answer] = {}
        self.send()

    def __enter__(self) -> "RawGrpc":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()

    def reset_on_close(self, reset: bool | int) -> None:
        """Or end it in order."""
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))

    def open(self, method: str = INFER) -> int:
        """The stream of a new call."""
        stream = self.h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        path = f"/inference.GRPCInferenceService/{method}"
        fixed = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "door"}
        self.h2.send_headers(
            stream, [*fixed.items(), ("content-type", "application/grpc"), ("te", "trailers")]
        )
        return stream

    def send(self) -> None:
        """What was prepared."""
        self._line.sendall(self.h2.data_to_send())

    def send_raw(self, data: bytes) -> None:
        self._line.sendall(data)

    def put(self, stream: int, parts: Iterable[bytes], *, end: bool = True, pad: int | None = None) -> None:
        """A DATA frame a part, each sent by itself."""
        for part in parts:
            while self.h2.local_flow_control_window(stream) < len(part):
                self.receive()
            self.h2.send_data(stream, part, pad_length=pad)
            self.send()
        if end:
            self.h2.end_stream(stream)
            self.send()

    def receive(self) -> None:
        """What comes next. Raises ConnectionError where nothing more does."""
        data = self._line.recv(65536)
        if not data:
            raise ConnectionError("the connection was closed")
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.answers[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                headers = {str(name): str(value) for name, value in event.headers}
                answer = self.answers[event.stream_id]
                answer.headers.append(headers)
                if "grpc-status" in headers:
                    answer.status = int(headers["grpc-status"])
                    answer.sentence = unquote(headers.get("grpc-message", ""))
        self.send()

    def answer(self, stream: int) -> Answer:
        """Once the call has ended."""
        while self.answers[stream].status is None:
            self.receive()
        return self.answers[stream]

    def ask(self, body: bytes, method: str = INFER) -> Answer:
        """One message, in one frame or as many as it takes."""
        stream = self.open(method)
        whole = message(body)
        self.put(stream, [whole[at : at + FRAME_BYTES] for at in range(0, len(whole), FRAME_BYTES)])
        return self.answer(stream)
