"""Literal: a header as HPACK writes it without any table (RFC 7541, section 6.2.2)."""

TABLE_EMPTIED = b"\x20"
"""How the first block of headers begins for an end that wants a smaller table than HTTP/2's (section 6.3)."""


def literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _text(name) + _text(value)


def _text(value: bytes) -> bytes:
    if len(value) < 0x7F:
        return bytes([len(value)]) + value
    prefix, rest = bytearray([0x7F]), len(value) - 0x7F
    while rest >= 0x80:
        prefix.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes(prefix) + bytes([rest]) + value
