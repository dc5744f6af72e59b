"""Times of a log: telling how they are written, and turning them into epoch milliseconds."""

from dataclasses import dataclass

import polars as pl

from footfall.errors import InputError, shortened
from footfall.times import LATEST_TIME
from footfall_data.logs.time_texts import check_text_format, compact_format, read_text, text_formats
from footfall_data.logs.units import ORDER, TimeUnit

UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
UNITS_PER_MS = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
UNITS_BELOW = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))

ANY_TIME = "a number since 1970 or a date and time such as 2024-05-31 23:59:59 (see --time-format)"
SAMPLE = 100
NO_EPOCH, NO_TIME = 1e8, 5e18
"""Numbers below the one would be seconds before March 1973, no shop's times but an order, days or years; above the
other no unit makes a time of them."""


@dataclass(frozen=True)
class TimeFormat:
    """How a log writes its times: numbers of `unit` (ORDER: places in order), text in `text_format`, or datetimes."""

    unit: str | None = None
    text_format: str | None = None

    @property
    def description(self) -> str:
        """What a time should look like, for an error."""
        if self.unit == ORDER:
            return "a whole number, an event's place in the order"
        if self.unit is not None:
            return f"a number of {UNIT_NAMES[self.unit]} since 1970"
        return (
            f"a time after 1970 written like {self.text_format}" if self.text_format else "a time after 1970"
        )

    def read(self, values: pl.Series) -> pl.Series:
        """Epoch milliseconds, or of ORDER the numbers themselves, Int64; null where `values` does not parse."""
        if self.unit == ORDER:
            return _whole_numbers(values)
        if self.unit is not None:
            return _numbers_to_ms(values, self.unit)
        if self.text_format is not None:
            return read_text(values if values.dtype == pl.String else _digits(values), self.text_format)
        return values.cast(pl.Datetime("ms")).dt.timestamp("ms")


def detect_time_format(
    values: pl.Series, unit: TimeUnit, text_format: str | None, where: str
) -> TimeFormat | None:
    """How `values`, one batch of a log, are written; None where no format fits any of them.

    Raises InputError, naming `where`, for a type that is no time and where more than one reading fits.
    """
    if values.dtype in (pl.Date, pl.Datetime):
        return TimeFormat()
    if not (values.dtype == pl.String or values.dtype.is_numeric()):
        raise InputError(f"{where} holds {values.dtype}, expected {ANY_TIME}")
    if text_format is not None:
        check_text_format(text_format)
        return TimeFormat(text_format=text_format)
    if unit != "auto":
        return TimeFormat(unit=unit)
    sample = values.drop_nulls().head(SAMPLE)
    numbers = _as_float(sample).drop_nulls()
    if len(numbers) * 2 >= len(sample):
        return _format_of_numbers(sample, numbers, where)
    of_texts = _format_of_texts(values, sample, where)
    return of_texts if of_texts or numbers.is_empty() else _format_of_numbers(sample, numbers, where)


def _format_of_numbers(sample: pl.Series, numbers: pl.Series, where: str) -> TimeFormat:
    """Seconds up to the year 5138, then milliseconds and so on: the median's size decides, but for compact dates."""
    compact = compact_format(sample if sample.dtype == pl.String else _digits(sample))
    if compact is not None:
        return TimeFormat(text_format=compact)
    possible = numbers.filter(numbers.is_between(NO_EPOCH, NO_TIME))
    if len(possible) * 2 < len(numbers):
        raise InputError(
            f"{where} holds numbers such as {shortened(str(sample[0]), 40)}, which as times since 1970 end before "
            "March 1973: where they number the events in their order pass --time-unit order, else say the unit "
            "(--time-unit s, ms, us or ns) or the writing (--time-format)"
        )
    middle = float(possible.quantile(0.5, "lower") or 0)
    return TimeFormat(unit=next((unit for end, unit in UNITS_BELOW if middle < end), "ns"))


def _format_of_texts(values: pl.Series, sample: pl.Series, where: str) -> TimeFormat | None:
    """The writing that fits most of the sample; where several do, most of all `values`."""
    found = text_formats(sample)
    if not found:
        return None
    if len(found) > 1:
        known = {text: read_text(values, text) >= 0 for text in found}
        most = max(int(of_text.sum()) for of_text in known.values())
        found = [text for text in found if known[text].sum() == most]
        found = [text for text in found if (known[text] & known[found[0]]).any()]  # other texts are bad rows
    if len(found) > 1:
        raise InputError(
            f"{where} holds times such as {shortened(sample[0], 40)!r}, of which day and month cannot be told apart: "
            f"say with --time-format whether that is {' or '.join(repr(text) for text in found)}"
        )
    return TimeFormat(text_format=found[0])


def _digits(values: pl.Series) -> pl.Series:
    """Numbers as text, whole ones without a point."""
    if values.dtype.is_integer():
        return values.cast(pl.String)
    number = values.cast(pl.Float64)
    whole = number.cast(pl.Int64, strict=False)
    return whole.set((whole != number).fill_null(value=True), None).cast(pl.String)


def _as_float(values: pl.Series) -> pl.Series:
    """Float64, null where it is no finite number; a comma in a text is a decimal point."""
    if values.dtype == pl.String:
        values = values.str.strip_chars()
        if values.str.contains(",", literal=True).any():
            values = values.str.replace(",", ".", literal=True)
    number = values.cast(pl.Float64, strict=False)
    return number.set(~number.is_finite().fill_null(value=False), None)


def _whole_numbers(values: pl.Series) -> pl.Series:
    """Int64, exact; null where it is no whole number."""
    text = values.str.strip_chars() if values.dtype == pl.String else values
    if values.dtype.is_integer():
        return values.cast(pl.Int64, strict=False)
    number = _as_float(text)
    whole = number.cast(pl.Int64, strict=False)
    whole = whole.set((whole != number).fill_null(value=True), None)
    if values.dtype == pl.String:  # a Float64 is exact to 2**53 only
        exact = text.cast(pl.Int64, strict=False)
        return exact.zip_with(exact.is_not_null(), whole)
    return whole


def _numbers_to_ms(values: pl.Series, unit: str) -> pl.Series:
    """Integers stay exact; the rest goes through Float64, exact to 2**53. Null past the year 9999."""
    per_ms = UNITS_PER_MS[unit]
    if values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
        if per_ms >= 1:
            ms = whole // int(per_ms)
        else:
            ms = whole.set((whole.abs() > LATEST_TIME // 1000 + 1).fill_null(value=False), None) * 1000
    else:
        number = _as_float(values) / per_ms
        ms = number.round().set((number.abs() > LATEST_TIME).fill_null(value=False), None).cast(pl.Int64)
    return ms.set((ms > LATEST_TIME).fill_null(value=False), None)
