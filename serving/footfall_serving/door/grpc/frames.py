"""Frames: HTTP/2 as far as the door reads it, which is lengths, kinds and streams; RFC 9113, sections 3.4 to 6."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = struct.Struct(">HBBBI")
"""Length in two parts, kind, flags, stream."""
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 0x20
LAST_STREAM = 2**31 - 1
NO_ERROR = 0
FIRST_FRAME_BYTES = 2**14
"""What each end takes of a frame before it says otherwise."""
PRIORITY_BYTES = 5

Frame = tuple[int, int, int, int, int]
"""Kind, flags, stream, and where it starts and stops. A block of headers in several frames is one."""


class Malformed(Exception):
    """What comes is no HTTP/2, or more of it in one piece than is taken."""


class Frames:
    """Cuts what comes on a connection into whole frames of at most `max_bytes`, headers of `max_head_bytes`.

    The latter are looked through again with all that comes of them.
    """

    def __init__(self, max_bytes: int, max_head_bytes: int) -> None:
        self._max_bytes, self._max_head_bytes = max_bytes, max_head_bytes
        self._rest = bytearray()
        self._need = 0

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._rest)

    def take(self, data: bytes) -> tuple[bytes, list[Frame]]:
        """The whole frames that there are now, and the bytes they lie in. Raises Malformed."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._need:
                return b"", []
            data = bytes(rest)
            rest.clear()
        frames: list[Frame] = []
        place, end, need = 0, len(data), HEAD.size
        while end - place >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(data, place)
            stop = place + HEAD.size + (high << 8 | low)
            if kind == HEADERS and not flags & END_HEADERS:
                stop = _end_of_block(data, stop, stream)
            elif kind == CONTINUATION:
                raise Malformed
            need = stop - place
            if need > (self._max_head_bytes if kind == HEADERS else self._max_bytes):
                raise Malformed
            if stop > end:
                break
            frames.append((kind, flags, stream & LAST_STREAM, place, stop))
            place, need = stop, HEAD.size
        if place < end:
            rest += memoryview(data)[place:]
            self._need = need
            data = data[:place]
        return data, frames


def _end_of_block(data: bytes, stop: int, stream: int) -> int:
    """Where the headers end whose first frame ends at `stop`; beyond the data where more of them must come."""
    while stop + HEAD.size <= len(data):
        high, low, kind, flags, same = HEAD.unpack_from(data, stop)
        if kind != CONTINUATION or same != stream:
            raise Malformed
        stop += HEAD.size + (high << 8 | low)
        if flags & END_HEADERS:
            return stop
    return max(stop, len(data)) + 1


def block_of(data: bytes, place: int, stop: int) -> bytes:
    """The headers that lie there, in one frame or several. Raises Malformed."""
    parts = []
    while place < stop:
        high, low, kind, flags, _ = HEAD.unpack_from(data, place)
        begin, end = place + HEAD.size, place + HEAD.size + (high << 8 | low)
        place = end
        if kind == HEADERS and flags & PADDED:
            end -= data[begin] if begin < end else 0
            begin += 1
        if kind == HEADERS and flags & PRIORITY:
            begin += PRIORITY_BYTES
        if begin > end:
            raise Malformed
        parts.append(data[begin:end])
    return parts[0] if len(parts) == 1 else b"".join(parts)


def headers_frames(flags: int, stream: int, block: bytes) -> bytes:
    """A block of headers in as many frames as it takes."""
    if len(block) <= FIRST_FRAME_BYTES:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    parts = [block[at : at + FIRST_FRAME_BYTES] for at in range(0, len(block), FIRST_FRAME_BYTES)]
    first = frame(HEADERS, flags, stream, parts[0])
    between = [frame(CONTINUATION, 0, stream, part) for part in parts[1:-1]]
    return b"".join([first, *between, frame(CONTINUATION, END_HEADERS, stream, parts[-1])])


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def goaway(last_stream: int) -> bytes:
    """No stream after that one is taken."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, NO_ERROR))
