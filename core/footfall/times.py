"""Times: which epoch milliseconds can be meant, and what the others look like."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footfall.contract import UNKNOWN_TIME

LATEST_TIME = 253_402_300_799_999
"""The end of the year 9999."""

SECONDS_OF_2001, SECONDS_OF_2100 = 978_307_200, 4_102_444_800
"""As milliseconds 12 January to 17 February 1970: far likelier a time of today in seconds than one of that month."""


def all_of_today(times: NDArray[np.int64]) -> bool:
    """Whether all of epoch ms int64 [times] lie past what may be seconds, and so are plausible: a quick look."""
    return not len(times) or bool(times.min() > SECONDS_OF_2100 and times.max() <= LATEST_TIME)


def implausible(times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of epoch ms int64 [times] cannot be meant: before 1970, after 9999, or seconds by their size."""
    seconds = (times >= SECONDS_OF_2001) & (times <= SECONDS_OF_2100)
    bad: NDArray[np.bool_] = seconds | (times < 0) | (times > LATEST_TIME)
    return bad


def why_implausible(time: int) -> str:
    """What is wrong with an implausible time, to follow its value in a sentence."""
    if time < 0:
        return "that is before 1970"
    if time > LATEST_TIME:
        return "in milliseconds that is after the year 9999, so it may be micro- or nanoseconds"
    return f"in milliseconds that is {iso_time(time)}, in seconds {iso_time(time * 1000)}"


def iso_time(epoch_ms: Any) -> str | None:
    """UTC, to the millisecond where there is one: 2017-11-26T01:00:00Z; None for UNKNOWN_TIME."""
    if epoch_ms == UNKNOWN_TIME:
        return None
    moment = datetime.fromtimestamp(int(epoch_ms) / 1000, UTC)
    spec = "milliseconds" if epoch_ms % 1000 else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=spec) + "Z"
