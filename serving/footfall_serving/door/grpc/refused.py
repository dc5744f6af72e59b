"""Refused: why a call goes no further, as its caller is told; gRPC over HTTP/2, RFC 7541 for the headers."""

import enum
from urllib.parse import quote

from footfall.contract import OVERLOADED, REQUEST_ID
from footfall_serving.door.grpc.frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    NO_ERROR,
    RST_STREAM,
    frame,
)

STATUS_200 = b"\x88"
CONTENT_TYPE = b"\x0f\x10\x10application/grpc"
"""Neither it nor what follows enters the table of headers, which stays as the server knows it."""
PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class Status(enum.IntEnum):
    """Of gRPC, as its callers know them."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14


class Refused(Exception):
    """A status and a sentence with the offending value."""

    def __init__(self, status: Status, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence

    def answer(self, stream: int, *, begun: bool, ended: bool, name: str = "") -> bytes:
        """The end of the call; `begun` where headers of the server's answer have gone before it, `ended` where the
        caller has ended its part, and so is not to be told to; `name` what an inference is called.
        """
        block = b"" if begun else STATUS_200 + CONTENT_TYPE
        block += header(REQUEST_ID.encode(), name.encode()) if name else b""
        block += header(b"grpc-status", str(self.status.value).encode())
        block += header(b"grpc-message", quote(self.sentence, safe=PRINTABLE).encode())
        trailers = frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
        return trailers if ended else trailers + frame(RST_STREAM, 0, stream, NO_ERROR.to_bytes(4, "big"))


TOO_MUCH = Refused(Status.RESOURCE_EXHAUSTED, "too many large requests arrive at once; try again")
TOO_MANY = Refused(Status.UNAVAILABLE, OVERLOADED)
TRAILERS = Refused(Status.UNIMPLEMENTED, "headers behind the first ones are not taken")
"""They cannot wait, for the table of headers, and what is before them may have to. No library of gRPC sends any."""


def header(name: bytes, value: bytes) -> bytes:
    """A literal without indexing, with a new name."""
    return b"\x00" + _text(name) + _text(value)


def _text(value: bytes) -> bytes:
    if len(value) < 0x7F:
        return bytes([len(value)]) + value
    prefix, rest = bytearray([0x7F]), len(value) - 0x7F
    while rest >= 0x80:
        prefix.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes(prefix) + bytes([rest]) + value
