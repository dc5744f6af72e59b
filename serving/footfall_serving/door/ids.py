"""Ids: what a request is called in the access log, in traces and to its caller: its own name, or one that is made."""

import itertools
import secrets

from footfall.contract import PLAIN_ID

_START = secrets.token_hex(6)
_NUMBERS = itertools.count(1)


def chosen(*given: str) -> str:
    """The first that is plain, else one that no other request has."""
    for name in given:
        if name and PLAIN_ID.fullmatch(name):
            return name
    return f"{_START}-{next(_NUMBERS):x}"
