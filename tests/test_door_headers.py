"""What a caller says before its messages: any encoder of HPACK is understood, and the server is told it plainly."""

import random

import hpack
import pytest

from footfall_serving.door.grpc.frames import Malformed
from footfall_serving.door.grpc.headers import Headers
from footfall_serving.door.grpc.literal import literal
from footfall_serving.door.grpc.refused import Refused, Status

CALL = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a/B"), (b":authority", b"door")]
UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


@pytest.mark.parametrize("huffman", [False, True])
def test_whatever_table_a_caller_keeps_its_headers_are_read_and_told_without_one(huffman: bool) -> None:
    random_, encoder, headers = random.Random(1), hpack.Encoder(), Headers()
    for number in range(2000):
        if number % 300 == 299:
            encoder.header_table_size = random_.choice([0, 100, 1000, 4096])
        letters = [random_.choice("abc \u007e\u00e9"[:5]) * random_.choice([0, 1, 40, 200]) for _ in range(3)]
        more = [(f"x-{random_.randrange(9)}".encode(), letter.encode()) for letter in letters]
        digits, unit = random_.randrange(10**8), random_.choice(list(UNITS))
        timeout = (b"grpc-timeout", b"%d%s" % (digits, unit))
        sensitive = [hpack.NeverIndexedHeaderTuple(b"x-key", b"secret")]
        asked = [*CALL, *more, timeout, (b"some-bin", b"AAEC"), *sensitive]
        told, seconds = headers.read(encoder.encode(asked, huffman=huffman))
        decoder = hpack.Decoder()
        assert decoder.decode(told, raw=True) == [*CALL, *more, *sensitive]
        assert not decoder.header_table.dynamic_entries
        assert seconds == pytest.approx(digits * UNITS[unit])


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([(b"Upper", b"a")], "a header is called b'Upper', which no header may be"),
        ([(b"", b"a")], "a header is called b'', which no header may be"),
        ([(b"a", b"\n")], "the header a is b'\\n', not printable ASCII"),
        ([(b":path", b"/c")], "a call begins with one each of :authority :method :path :scheme"),
        ([(b"grpc-timeout", b"1")], "grpc-timeout is b'1', at most 8 digits and one of HMSmun were expected"),
        ([(b"a", b"x" * 9000)] * 2, "the headers are 18069 bytes unpacked, at most 16384 are taken"),
    ],
)
def test_headers_that_might_end_the_connection_that_all_share_are_refused(
    more: list[tuple[bytes, bytes]], sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        Headers().read(b"".join(literal(*header) for header in (*CALL, *more)))
    assert refused.value.sentence == sentence


@pytest.mark.parametrize("call", [CALL[1:], CALL[:3], [*CALL[:2], (b"a", b"b"), *CALL[2:]], []])
def test_a_call_without_its_four_first_headers_is_refused(call: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Refused, match="a call begins with one each of"):
        Headers().read(b"".join(literal(*header) for header in call))


def test_a_call_that_is_no_post_is_refused() -> None:
    for method, path in ((b"GET", b"/a"), (b"POST", b"a")):
        call = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"")]
        with pytest.raises(Refused) as refused:
            Headers().read(b"".join(literal(*header) for header in call))
        assert refused.value.status == Status.UNIMPLEMENTED


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # no entry
        b"\xbe",  # of an empty table
        b"\x40\x05ab",  # a text that is cut off
        b"\x40",
        b"\x00\x81\x00\x00",  # no Huffman code
        b"\xff\xff\xff\xff\xff\xff\xff\x01",  # a number without end
        b"\x3f\xff\xff\x01",  # a table larger than there may be
        b"\x83\x20",  # a new size behind a header
    ],
)
def test_what_is_no_block_of_headers_is_malformed(block: bytes) -> None:
    with pytest.raises(Malformed):
        Headers().read(block)


def test_a_refused_block_has_changed_the_table_as_its_caller_believes() -> None:
    encoder, headers = hpack.Encoder(), Headers()
    with pytest.raises(Refused):
        headers.read(encoder.encode([*CALL, (b"Upper", b"a"), (b"x-known", b"1")]))
    block = encoder.encode([*CALL, (b"x-known", b"1")])
    assert b"known" not in block
    assert hpack.Decoder().decode(headers.read(block)[0], raw=True) == [*CALL, (b"x-known", b"1")]
