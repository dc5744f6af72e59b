"""Headers: what a caller says before its messages, read as HPACK (RFC 7541) and written so that no table is needed.

A call goes to the server later than others that came after it, or never; so the server's table of headers cannot be
the caller's.
"""

import re
from collections import deque

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from footfall_serving.door.grpc.frames import Malformed
from footfall_serving.door.grpc.literal import literal
from footfall_serving.door.grpc.refused import Refused, Status
from footfall_serving.door.limits import MAX_HEAD_BYTES

Header = tuple[bytes, bytes, bytes]
"""Name, value, and how the server is told, b"" where it is not."""
TABLE_BYTES, ENTRY_BYTES = 4096, 32
"""Of HTTP/2: the largest table, and what an entry counts beside its texts."""
LONGEST_INTEGER = 5
"""Bytes behind its prefix."""
TIMEOUT = b"grpc-timeout"
SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
TIME = re.compile(rb"([0-9]{1,8})([HMSmun])")
NAME, VALUE = re.compile(rb":?[0-9a-z_.-]+"), re.compile(rb"[\x20-\x7e]*")
BINARY = b"-bin"
"""How names of headers end whose value is base64; server 2.51 reads none of them."""
NEEDED = [b":authority", b":method", b":path", b":scheme"]


class Headers:
    """Those of one caller, whose table they change."""

    def __init__(self) -> None:
        self._table: deque[Header] = deque()
        self._bytes, self._limit = 0, TABLE_BYTES
        self._good = b""

    def read(self, block: bytes) -> tuple[bytes, float | None]:
        """What the server is told, and the seconds that the caller waits. Raises Malformed, or then Refused."""
        try:
            headers = self._read(block)
        except (IndexError, HPACKError) as error:
            raise Malformed from error
        length, seconds = 0, None
        for name, value, text in headers:
            length += len(text)
            if name == TIMEOUT:
                seconds = _seconds(value)
        if length > MAX_HEAD_BYTES:
            raise Refused(
                Status.RESOURCE_EXHAUSTED,
                f"the headers are {length} bytes unpacked, at most {MAX_HEAD_BYTES} are taken",
            )
        told = b"".join([text for _, _, text in headers])
        if told != self._good or not told:
            _check(headers)
            self._good = told
        return told, seconds

    def _read(self, block: bytes) -> list[Header]:
        headers: list[Header] = []
        place = 0
        while place < len(block):
            first = block[place]
            if first & 0x80:
                index, place = _integer(block, place, 0x7F)
                headers.append(self._entry(index))
            elif first & 0x40:
                header, place = self._literal(block, place, 0x3F)
                headers.append(header)
                self._table.appendleft(header)
                self._bytes += len(header[0]) + len(header[1]) + ENTRY_BYTES
                self._shrink()
            elif first & 0x20:
                self._limit, place = _integer(block, place, 0x1F)
                if headers or self._limit > TABLE_BYTES:
                    raise Malformed
                self._shrink()
            else:
                header, place = self._literal(block, place, 0x0F)
                headers.append(header)
        return headers

    def _entry(self, index: int) -> Header:
        if not index:
            raise Malformed
        return STATIC[index - 1] if index <= len(STATIC) else self._table[index - len(STATIC) - 1]

    def _literal(self, block: bytes, place: int, mask: int) -> tuple[Header, int]:
        index, place = _integer(block, place, mask)
        if index:
            name = self._entry(index)[0]
        else:
            name, place = _text(block, place)
        value, place = _text(block, place)
        told = name != TIMEOUT and not name.endswith(BINARY)
        return (name, value, literal(name, value) if told else b""), place

    def _shrink(self) -> None:
        while self._bytes > self._limit:
            name, value, _ = self._table.pop()
            self._bytes -= len(name) + len(value) + ENTRY_BYTES


def _integer(block: bytes, place: int, mask: int) -> tuple[int, int]:
    number = block[place] & mask
    if number < mask:
        return number, place + 1
    for behind in range(LONGEST_INTEGER):
        byte = block[place + 1 + behind]
        number += (byte & 0x7F) << 7 * behind
        if not byte & 0x80:
            return number, place + 2 + behind
    raise Malformed


def _text(block: bytes, place: int) -> tuple[bytes, int]:
    packed = block[place] & 0x80
    length, place = _integer(block, place, 0x7F)
    if place + length > len(block):
        raise Malformed
    text = block[place : place + length]
    return decode_huffman(text) if packed else text, place + length


def _check(headers: list[Header]) -> None:
    """One connection is all callers': what might end it goes no further. Raises Refused."""
    for name, value, _ in headers:
        if not NAME.fullmatch(name):
            raise Refused(Status.INVALID_ARGUMENT, f"a header is called {name!r}, which no header may be")
        if not name.endswith(BINARY) and not VALUE.fullmatch(value):
            raise Refused(
                Status.INVALID_ARGUMENT, f"the header {name.decode()} is {value!r}, not printable ASCII"
            )
    about = [name for name, _, _ in headers if name.startswith(b":")]
    if sorted(about) != NEEDED or any(name not in NEEDED for name, _, _ in headers[: len(NEEDED)]):
        raise Refused(Status.INVALID_ARGUMENT, f"a call begins with one each of {b' '.join(NEEDED).decode()}")
    values = {name: value for name, value, _ in headers}
    if values[b":method"] != b"POST" or not values[b":path"].startswith(b"/"):
        raise Refused(Status.UNIMPLEMENTED, "a call is a POST to a path")


def _seconds(value: bytes) -> float:
    """Raises Refused."""
    found = TIME.fullmatch(value)
    if found is None:
        raise Refused(
            Status.INVALID_ARGUMENT,
            f"grpc-timeout is {value!r}, at most 8 digits and one of HMSmun were expected",
        )
    return int(found[1]) * SECONDS[found[2]]


STATIC: list[Header] = [
    (name, value, bytes([0x80 | place + 1]) if value else literal(name, value))
    for place, (name, value) in enumerate(HeaderTable.STATIC_TABLE)
]
