"""Units of numeric times, as a log or a user names them."""

from typing import Literal

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "order"]
ORDER = "order"
