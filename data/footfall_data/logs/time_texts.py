"""Times written as text: the writings that are known, and reading one of them."""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from itertools import product

import polars as pl

from footfall.errors import InputError

DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y%m%d",
    *(
        date.replace("/", separator)
        for separator in "/.-"
        for date in ("%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%y/%m/%d")
    ),
    "%d %b %Y",
    "%d-%b-%Y",
    "%d/%b/%Y",
    "%b %d %Y",
    "%b %d, %Y",
    "%a, %d %b %Y",
    "%G-W%V-%u",
    "%Y-%j",
    "%Y-%m",
)
CLOCKS = (
    *(
        f"{before}{clock}"
        for before in (" ", "T")
        for clock in ("%H:%M", "%H:%M:%S%.f", "%H:%M:%S,%3f", "%H%M%S")
    ),
    ":%H:%M:%S",
    " %I:%M %p",
    " %I:%M:%S %p",
)
OFFSETS = ("", "%#z", " %Z")
TEXT_FORMATS = (
    *DATES,
    *("".join(parts) for parts in product(DATES, CLOCKS, OFFSETS)),
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S %z %Y",
)
"""A time without an offset is UTC."""

COMPACT_FORMATS = {
    8: "%Y%m%d",
    10: "%Y%m%d%H",
    12: "%Y%m%d%H%M",
    14: "%Y%m%d%H%M%S",
    17: "%Y%m%d%H%M%S%3f",
}
"""Digits -> the date they may be. As numbers since 1970 these lie in 1970, 2034, 1976, 2611 and 2611."""
COMPACT_YEARS = r"^(19[7-9]|20)\d"

ZONE_MINUTES = {
    "UTC": 0, "GMT": 0, "UT": 0, "Z": 0, "WET": 0, "WEST": 60, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180,
    "MSK": 180, "JST": 540, "EST": -300, "EDT": -240, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420,
}  # fmt: skip
"""Names of one meaning; BST, CST and IST each have several and are refused."""
ZONED = ("%+", "%z", "%#z", "%:z")
EXAMPLE = datetime(2024, 5, 31, 13, 59, 58)
EXAMPLE_PARTS = {"%.f": "", "%3f": "123", "%#z": "+0100", "%z": "+0100", "%Z": "UTC"}


def check_text_format(text_format: str) -> None:
    """Raises InputError where `text_format` is not one of strptime's, or would be read otherwise than it says."""
    spelled = text_format.replace(".%f", "%.f")
    if "%f" in spelled:
        raise InputError(
            f"time format {text_format!r}: write parts of a second as %.f, or as %3f behind a comma"
        )
    if "%Z" in spelled.removesuffix("%Z"):
        raise InputError(f"time format {text_format!r}: the name of a time zone, %Z, can only come last")
    try:
        _parse(pl.Series(["2024"]), spelled.removesuffix("%Z"))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"time format {text_format!r} cannot be used: {reason}") from error


def text_formats(sample: pl.Series) -> list[str]:
    """The formats that fit most of the texts in `sample`, more than one where they cannot be told apart."""
    by_shape = _formats_by_shape()
    candidates = {text: None for value in sample for text in by_shape.get(_shape(value), ())}
    counts = {text: count for text in candidates if (count := _known(sample, text))}
    most = max(counts.values(), default=0)
    return [text for text, count in counts.items() if count == most]


@cache
def _formats_by_shape() -> Mapping[str, list[str]]:
    """To try all the formats on a text takes half a second; of one shape there are six at most."""
    shapes: dict[str, list[str]] = {}
    for text in TEXT_FORMATS:
        example = text
        for part, shown in EXAMPLE_PARTS.items():
            example = example.replace(part, shown)
        shapes.setdefault(_shape(EXAMPLE.strftime(example)), []).append(text)
    return shapes


def _shape(text: str) -> str:
    """The text with numbers as 9, words as a, and without parts of a second; any offset is +9."""
    text = re.sub(r"(:\d+)\.\d+", r"\1", text.strip())
    if re.search(r"[ T:]\d\d:?\d\d", text):
        text = re.sub(r"(?<=\d)\s*(Z|[+-]\d\d(:?\d\d)?)( \d+)?$", r"+9\3", text)
    return re.sub(r"[A-Za-z]+", "a", re.sub(r"\d+", "9", text))


def compact_format(digits: pl.Series) -> str | None:
    """The date that most of `digits` String are by their digits, None where they are none."""
    digits = _without_point(digits)
    lengths = digits.str.len_bytes()
    for length, text in COMPACT_FORMATS.items():
        dates = digits.filter((lengths == length) & digits.str.contains(COMPACT_YEARS))
        if len(dates) * 2 > len(digits) and _known(dates, text) * 2 >= len(digits):
            return text
    return None


def read_text(values: pl.Series, text_format: str) -> pl.Series:
    """Epoch milliseconds Int64; null where `values` String is not written so or names an unknown time zone."""
    values = values.str.strip_chars()
    text_format = text_format.replace(".%f", "%.f")
    if text_format in COMPACT_FORMATS.values():
        values = _without_point(values)
    if text_format == COMPACT_FORMATS[10]:  # hours without minutes are refused by polars
        return _parse(values + "00", COMPACT_FORMATS[12])
    if not text_format.endswith("%Z"):
        return _parse(values, text_format)
    parts = values.str.extract_groups(r"^(.*?)([A-Za-z]+)$").struct
    minutes = (
        parts.field("2").str.to_uppercase().replace_strict(ZONE_MINUTES, default=None, return_dtype=pl.Int64)
    )
    return _parse(parts.field("1"), text_format.removesuffix("%Z")) - minutes * 60_000


def _without_point(digits: pl.Series) -> pl.Series:
    """As pandas writes a column of whole numbers in which one is missing: 20240131.0."""
    return digits.str.replace(r"\.0$", "")


def _parse(values: pl.Series, text_format: str) -> pl.Series:
    zone = "UTC" if any(offset in text_format for offset in ZONED) else None
    parsed = values.str.to_datetime(text_format, time_unit="ms", time_zone=zone, strict=False)
    return parsed.dt.timestamp("ms")


def _known(values: pl.Series, text_format: str) -> int:
    """How many of `values` the format reads as a time from 1970 on; "%d.%m.%Y" reads 31.12.24 as of the year 24."""
    return int((read_text(values, text_format) >= 0).sum())
