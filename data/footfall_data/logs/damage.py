"""Where a text file is broken: looked for, row by row, only once reading it has failed."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path


def broken_row(path: Path, separator: str | None, *, headerless: bool) -> int | None:
    """The first data row, from 1, with too many fields or bytes that are not UTF-8; `separator` None: with bad JSON.

    None where there is no such row, it is the header, or the file is compressed by other means than gzip.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as lines:
            return _broken_json(lines) if separator is None else _broken_csv(lines, separator, headerless)
    except (OSError, EOFError, zlib.error):
        return None


def _broken_json(lines: Iterable[bytes]) -> int | None:
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                json.loads(line)
        except (ValueError, RecursionError):
            return number
    return None


def _broken_csv(lines: Iterable[bytes], separator: str, headerless: bool) -> int | None:
    text = (line.decode() for line in lines)
    # As in LogFile.scan: a quote inside a tab-separated field is text.
    reader = csv.reader(
        text, delimiter=separator, quoting=csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
    )
    number = 0 if headerless else -1
    width = None
    try:
        for row in reader:
            number += 1
            width = width or len(row)
            if len(row) > width:
                return number
    except (UnicodeDecodeError, csv.Error):
        return number + 1 or None
    return None
