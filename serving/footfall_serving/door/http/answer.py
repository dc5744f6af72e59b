"""Answer: what the access log tells of the server's answer."""

import re

import orjson

from footfall.contract import MODEL_VERSION

JSON_LENGTH = re.compile(rb"\r\ninference-header-content-length:[ \t]*([0-9]{1,9})\r\n", re.IGNORECASE)
STATUS = slice(9, 12)


def status_of(answer: bytes) -> str:
    return answer[STATUS].decode()


def version_of(answer: bytes) -> int | None:
    """The number of the version that gave it; None where it says none."""
    head, _, body = answer.partition(b"\r\n\r\n")
    said = JSON_LENGTH.search(head + b"\r\n")
    place = int(said[1]) if said else len(body)
    try:
        outputs = orjson.loads(body[:place]).get("outputs", [])
    except orjson.JSONDecodeError:  # packed for its caller
        return None
    for output in outputs:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        if output["name"] == MODEL_VERSION.name:
            return int.from_bytes(body[place : place + size], "little") if size else int(output["data"][0])
        place += size
    return None
