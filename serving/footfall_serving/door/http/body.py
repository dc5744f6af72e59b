"""Body: the bytes that follow a head, counted, unchunked and unpacked within limits."""

import re
import zlib
from http import HTTPStatus

from footfall_serving.door.http.refused import Refused, malformed, shown
from footfall_serving.door.limits import MAX_BODY_BYTES, MAX_CHUNKS

CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
MAX_SIZE_LINE = 10
"""Bytes of a chunk's size and its line end."""
WINDOW = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}


class Chunks:
    """A body in chunks, taken from the connection's buffer as they come."""

    def __init__(self) -> None:
        self.body = bytearray()
        self._taken = 0

    def take(self, buffer: bytearray) -> bytes | None:
        """Whole chunks out of the buffer; the body once its last chunk is there. Raises Refused."""
        while (end := buffer.find(b"\r\n", 0, MAX_SIZE_LINE)) >= 0:
            line = bytes(buffer[:end])
            if CHUNK_SIZE.fullmatch(line) is None:
                raise malformed(f"{shown(line)} is no size of a chunk")
            size = int(line, 16)
            if len(self.body) + size > MAX_BODY_BYTES:
                raise too_large("the chunks are", len(self.body) + size)
            start, stop = end + 2, end + 2 + size
            if len(buffer) < stop + 2:
                return None
            if buffer[stop : stop + 2] != b"\r\n":
                raise malformed(f"a chunk of {size} bytes does not end where it says")
            self.body += buffer[start:stop]
            del buffer[: stop + 2]
            self._taken += 1
            if self._taken > MAX_CHUNKS:
                raise malformed(f"the body has more than {MAX_CHUNKS} chunks")
            if size == 0:
                return bytes(self.body)
        if len(buffer) >= MAX_SIZE_LINE:
            raise malformed(f"{shown(bytes(buffer[:MAX_SIZE_LINE]))} is no size of a chunk")
        return None


def unpacked(body: bytes, coding: bytes) -> bytes:
    """What was packed by gzip or deflate, as long as it stays within what a body may be. Raises Refused."""
    if not coding:
        return body
    unpacker = zlib.decompressobj(WINDOW[coding])
    try:
        plain = unpacker.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise malformed(f"the body is not {coding.decode()}: {error}") from error
    if len(plain) > MAX_BODY_BYTES:
        raise too_large("unpacked, the body is more than", MAX_BODY_BYTES)
    if not unpacker.eof or unpacker.unused_data:
        raise malformed(f"the body is not one whole {coding.decode()} stream")
    return plain


def too_large(what: str, size: int) -> Refused:
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{what} {size} bytes, at most {MAX_BODY_BYTES} are taken"
    )
