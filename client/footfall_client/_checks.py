"""Checks: what a caller gave, looked at before anything is sent. Every function raises InvalidRequest."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from reprlib import repr as shortened
from typing import Any

import numpy as np

from footfall.contract import PLAIN_ID, UNKNOWN_TIME
from footfall_client._exceptions import InvalidRequest

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
LARGEST_K = int(np.iinfo(np.int32).max)
TIMES = np.iinfo(np.int64)


def as_list(name: str, values: Any) -> list[Any]:
    """Any iterable but a text or a mapping, which would come apart into characters or keys."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InvalidRequest(f"{name} is {kind(values)}, expected a list")
    return list(values)


def ids(name: str, values: Any) -> list[str]:
    """Item ids."""
    checked = as_list(name, values)
    for place, value in enumerate(checked):
        if not isinstance(value, str):
            raise InvalidRequest(f"{name} number {place} is {kind(value)}, expected an item id")
    return checked


def utf8(name: str, place: int, value: Any) -> bytes:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} number {place} is {kind(value)}, expected a str")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{name} number {place} is {shortened(value)}, which is not UTF-8") from error


def top_k(value: Any) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise InvalidRequest(f"k is {shortened(value)}, expected a whole number")
    if not 1 <= value <= LARGEST_K:
        raise InvalidRequest(f"k is {value}, it must be at least 1 and at most {LARGEST_K}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InvalidRequest(f"{name} is {shortened(value)}, expected True or False")
    return bool(value)


def epoch_ms(name: str, time: Any) -> int:
    """A datetime, epoch milliseconds or None -> epoch milliseconds."""
    if time is None:
        return UNKNOWN_TIME
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise InvalidRequest(
                f"{name} is {time}, which has no time zone; use e.g. datetime.now(timezone.utc)"
            )
        return round(time.timestamp() * 1000)
    if not isinstance(time, int | np.integer) or isinstance(time, bool):
        raise InvalidRequest(f"{name} is {kind(time)}, expected a datetime or whole epoch milliseconds")
    if not TIMES.min <= time <= TIMES.max:
        raise InvalidRequest(f"{name} is {time}, no epoch milliseconds of 64 bits")
    return int(time)


def request_id(value: Any) -> str:
    if not isinstance(value, str) or not PLAIN_ID.fullmatch(value):
        raise InvalidRequest(
            f"request_id is {shortened(value)}, expected at most 128 of A-Z, a-z, 0-9 and ._:/+=@-"
        )
    return value


def traceparent(value: Any) -> str:
    if not isinstance(value, str) or not TRACEPARENT.fullmatch(value):
        raise InvalidRequest(f"traceparent is {shortened(value)}, expected W3C's 00-TRACE-SPAN-FLAGS")
    return value


def kind(value: Any) -> str:
    """What a sentence calls it: "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
