"""Head: the first lines of an HTTP request, read strictly.

What is not plainly one thing is refused: two ways to read a request are what lets one request hide in another.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus

from footfall.contract import KEY_HEADER, REQUEST_ID
from footfall_serving.door.http.refused import Refused, malformed, shown
from footfall_serving.door.limits import MAX_BODY_BYTES
from footfall_serving.door.steps import refusal

REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.([01])")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
NUMBER = re.compile(rb"[0-9]{1,10}")
CODINGS = (b"", b"identity", b"gzip", b"deflate")
KEY, JSON_LENGTH = KEY_HEADER.encode(), b"inference-header-content-length"
PASSED = (KEY, b"accept-encoding")
"""Headers that go on to the server as they came."""
TRACE = b"traceparent", b"tracestate"
"""The same, of a trace that its caller records: the server would record any."""
RECORDED = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][13579bdf]")

NAME = rb"[A-Za-z0-9_.-]{1,128}"
MODEL = rb"/v2/models/(" + NAME + rb")(?:/versions/[0-9]{1,18})?"
ROUTES = tuple(
    (re.compile(path), methods)
    for path, methods in (
        (MODEL + rb"/infer", (b"POST",)),
        (rb"/v2/?|/v2/health/(?:live|ready)", (b"GET",)),
        (MODEL + rb"(?:/ready|/config)?", (b"GET",)),
        # The server asks for the key before these.
        (rb"/v2/models/stats|" + MODEL + rb"/stats", (b"GET",)),
        (rb"/v2/repository/(?:index|models/" + NAME + rb"/(?:load|unload))", (b"POST",)),
        (rb"/v2/logging|/v2(?:/models/" + NAME + rb")?/trace/setting", (b"GET", b"POST")),
        (rb"/v2/(?:system|cuda)sharedmemory(?:/region/" + NAME + rb")?/status", (b"GET",)),
        (rb"/v2/(?:system|cuda)sharedmemory(?:/region/" + NAME + rb")?/(?:un)?register", (b"POST",)),
    )
)


@dataclass(slots=True)
class Head:
    """`length` None is a body in chunks; `json_length` the part of the body that is JSON, None all of it."""

    method: bytes
    path: bytes
    infers: bool
    keep: bool
    length: int | None
    coding: bytes
    json_length: int | None
    expects: bool
    passed: bytes
    request_id: str

    def request(self, body: bytes, json_length: int | None) -> bytes:
        """The request as the server is sent it."""
        binary = b"" if json_length is None else b"%b: %d\r\n" % (JSON_LENGTH, json_length)
        return b"%b %b HTTP/1.1\r\nHost: door\r\n%b%bContent-Length: %d\r\n\r\n%b" % (
            self.method,
            self.path,
            self.passed,
            binary,
            len(body),
            body,
        )


def read_head(text: bytes) -> Head:
    """Of the bytes before the first empty line. Raises Refused."""
    lines = text.split(b"\r\n")
    line = REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        raise malformed(f"{shown(lines[0])} is no request line of HTTP/1.1")
    method, target, minor = line.groups()
    headers = _headers(lines[1:])
    path = target.partition(b"?")[0]
    route, match = _route(method, path)
    sentence = refusal(match[1]) if route == 0 else None
    if sentence is not None:
        raise Refused(HTTPStatus.FORBIDDEN, sentence)
    coding = headers.get(b"content-encoding", b"").lower()
    if coding not in CODINGS:
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the content encoding {shown(coding)} is not gzip, deflate or identity",
        )
    connection = headers.get(b"connection", b"").lower()
    passed = PASSED + TRACE if RECORDED.fullmatch(headers.get(TRACE[0], b"")) else PASSED
    return Head(
        method,
        path,
        route == 0,
        minor == b"1" and b"close" not in connection,
        _length(headers),
        b"" if coding == b"identity" else coding,
        _number(headers, JSON_LENGTH),
        minor == b"1" and headers.get(b"expect", b"").lower() == b"100-continue",
        b"".join(b"%b: %b\r\n" % (name, headers[name]) for name in passed if name in headers),
        headers.get(REQUEST_ID.encode(), b"").decode("latin-1"),
    )


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for line in lines:
        match = HEADER.fullmatch(line)
        if match is None:
            raise malformed(f"{shown(line)} is no header")
        name = match[1].lower()
        if name in headers and name in (b"content-length", b"transfer-encoding", JSON_LENGTH, KEY):
            raise malformed(f"the header {shown(name)} is there twice")
        headers[name] = match[2].rstrip(b" \t")
    return headers


def _route(method: bytes, path: bytes) -> tuple[int, re.Match[bytes]]:
    for place, (pattern, methods) in enumerate(ROUTES):
        match = pattern.fullmatch(path)
        if match is not None:
            if method not in methods:
                raise Refused(
                    HTTPStatus.METHOD_NOT_ALLOWED,
                    f"{shown(path)} takes {b' and '.join(methods).decode()}, not {shown(method)}",
                )
            return place, match
    raise Refused(HTTPStatus.NOT_FOUND, f"there is no {shown(path)}")


def _length(headers: dict[bytes, bytes]) -> int | None:
    if b"transfer-encoding" in headers:
        if b"content-length" in headers:
            raise malformed("the request has both a Content-Length and a Transfer-Encoding")
        if headers[b"transfer-encoding"].lower() != b"chunked":
            raise malformed(f"the transfer encoding {shown(headers[b'transfer-encoding'])} is not chunked")
        return None
    return _number(headers, b"content-length") or 0


def _number(headers: dict[bytes, bytes], name: bytes) -> int | None:
    value = headers.get(name)
    if value is None:
        return None
    if NUMBER.fullmatch(value) is None:
        raise malformed(f"the header {name.decode()} is {shown(value)}, expected a number")
    if int(value) > MAX_BODY_BYTES:
        raise Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the header {name.decode()} is {int(value)}, at most {MAX_BODY_BYTES} bytes are taken",
        )
    return int(value)
