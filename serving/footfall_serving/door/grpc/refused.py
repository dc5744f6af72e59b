"""Refused: why a call goes no further, as its caller is told; gRPC over HTTP/2, RFC 7541 for the headers."""

import enum
from functools import cached_property
from urllib.parse import quote

from footfall.contract import OVERLOADED, REQUEST_ID
from footfall_serving.door.grpc.frames import END_STREAM, NO_ERROR, RST_STREAM, frame, headers_frames
from footfall_serving.door.grpc.literal import literal

BEGINNING = b"\x88\x0f\x10\x10application/grpc"
"""Status 200 and the type of the content. Neither enters the table of headers, nor does what follows."""
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

    @cached_property
    def _trailers(self) -> bytes:
        message = quote(self.sentence, safe=PRINTABLE).encode()
        return literal(b"grpc-status", b"%d" % self.status) + literal(b"grpc-message", message)

    def answer(self, stream: int, *, begun: bool, ended: bool, name: str = "", before: bytes = b"") -> bytes:
        """The end of the call; `begun` where headers of the server's answer have gone before it, `ended` where the
        caller has ended its part, and so is not to be told to; `name` what an inference is called, `before` what the
        block of headers begins with.
        """
        block = before + (b"" if begun else BEGINNING)
        block += (literal(REQUEST_ID.encode(), name.encode()) if name else b"") + self._trailers
        trailers = headers_frames(END_STREAM, stream, block)
        return trailers if ended else trailers + frame(RST_STREAM, 0, stream, NO_ERROR.to_bytes(4, "big"))


TOO_MUCH = Refused(Status.RESOURCE_EXHAUSTED, "too many large requests arrive at once; try again")
TOO_MANY = Refused(Status.UNAVAILABLE, OVERLOADED)
TOO_LATE = Refused(Status.DEADLINE_EXCEEDED, "the deadline passed before the answer came")
TRAILERS = Refused(Status.UNIMPLEMENTED, "headers behind the first ones are not taken")
PADDED_DATA = Refused(Status.UNIMPLEMENTED, "padded DATA frames are not taken")
