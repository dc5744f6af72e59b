"""Refused: why a request goes no further, as its caller is told."""

import json
from http import HTTPStatus

LINE_END = "\r\n"


class Refused(Exception):
    """A status and a sentence with the offending value."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence

    def answer(self, *, last: bool) -> bytes:
        """As HTTP; `last` where the connection takes no further request."""
        body = json.dumps({"error": self.sentence}).encode()
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{'Connection: close' + LINE_END if last else ''}\r\n"
        )
        return head.encode() + body


def malformed(sentence: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, sentence)


def shown(value: object) -> str:
    """The value for a sentence, cut where it is long."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:60]}...{text[-10:]}"
