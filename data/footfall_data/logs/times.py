"""Times of a log: telling how they are written, and turning them into epoch milliseconds."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

import polars as pl

TimeUnit = Literal["auto", "s", "ms", "us"]
TIME_UNITS: tuple[str, ...] = get_args(TimeUnit)
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
MS_PER_UNIT = {"s": 1000.0, "ms": 1.0, "us": 0.001}

# Tried in this order; a time without an offset is UTC.
TEXT_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%+",
    "%Y-%m-%d %H:%M:%S%.f %Z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
    "%m/%d/%Y %H:%M",
)
ANY_TIME = "a number since 1970 or a date and time such as 2024-05-31 23:59:59 (see --time-format)"
SAMPLE = 100
MAX_TIME_MS = 253_402_300_799_999
"""The end of the year 9999."""


@dataclass(frozen=True)
class TimeFormat:
    """How a log writes its times: numbers of `unit` since 1970, text in `text_format`, or real datetimes."""

    unit: str | None = None
    text_format: str | None = None

    @property
    def description(self) -> str:
        """What a time should look like, for an error."""
        if self.unit is not None:
            return f"a number of {UNIT_NAMES[self.unit]} since 1970"
        return (
            f"a time after 1970 written like {self.text_format}" if self.text_format else "a time after 1970"
        )

    def milliseconds(self, values: pl.Series) -> pl.Series:
        """Epoch milliseconds Int64; null where `values` is null or does not parse."""
        if self.unit is not None:
            return _numbers_to_ms(values, MS_PER_UNIT[self.unit])
        if self.text_format is not None:
            zone = "UTC" if self.text_format == "%+" else None
            parsed = values.str.to_datetime(self.text_format, time_unit="ms", time_zone=zone, strict=False)
            return parsed.dt.timestamp("ms")
        return values.cast(pl.Datetime("ms")).dt.timestamp("ms")


def detect_time_format(values: pl.Series, unit: TimeUnit) -> TimeFormat | None:
    """How the first known of `values` are written; None where no format fits any of them."""
    if values.dtype.is_temporal():
        return TimeFormat()
    sample = values.drop_nulls().head(SAMPLE)
    numbers = sample.cast(pl.Float64, strict=False).drop_nulls()
    as_numbers = TimeFormat(unit=_unit_of(numbers) if unit == "auto" else unit)
    if values.dtype != pl.String:
        return as_numbers
    formats = [as_numbers, *(TimeFormat(text_format=text) for text in TEXT_FORMATS)]
    parsed = [candidate.milliseconds(sample).count() for candidate in formats]
    return formats[parsed.index(max(parsed))] if any(parsed) else None


def iso_time(epoch_ms: int) -> str:
    """UTC, to the millisecond where there is one: 2017-11-26T01:00:00Z."""
    moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    spec = "milliseconds" if epoch_ms % 1000 else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=spec) + "Z"


def _unit_of(numbers: pl.Series) -> str:
    """Seconds up to the year 5138, then milliseconds, then microseconds: the median's size decides."""
    middle = abs(float(numbers.quantile(0.5, "lower") or 0))
    return "s" if middle < 1e11 else "ms" if middle < 1e14 else "us"


def _numbers_to_ms(values: pl.Series, ms_per_unit: float) -> pl.Series:
    """Integers stay exact; the rest goes through Float64, exact to 2**53. Null past the year 9999."""
    if values.dtype.is_integer() and ms_per_unit >= 1:
        whole = values.cast(pl.Int64, strict=False)
        return whole.set((whole > MAX_TIME_MS // int(ms_per_unit)).fill_null(value=False), None) * int(
            ms_per_unit
        )
    ms = (values.cast(pl.Float64, strict=False) * ms_per_unit).round()
    return ms.set(~(ms <= MAX_TIME_MS).fill_null(value=False), None).cast(pl.Int64)
