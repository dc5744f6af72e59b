"""Records: a text file's rows, line by line, and which of them are bad; slow, for files that polars misreads."""

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_JOINED = 100
"""Lines that one quoted field may go over."""


OTHER_ENCODING = "say how the text is written with --encoding, such as latin-1 or cp1252"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read, as text, and why."""

    text: str
    reason: str


@dataclass(frozen=True)
class Layout:
    """How a line holds its fields. `quoted`: a field may stand in quotes; `padded`: spaces follow the separator."""

    separator: str
    quoted: bool
    padded: bool = False
    encoding: str = "utf-8"

    def fields(self, line: str) -> list[str]:
        """Of one line whose quotes are as they should be. Raises csv.Error where they are not."""
        if not self.quoted or '"' not in line:
            return line.split(self.separator)
        return next(csv.reader([line], delimiter=self.separator, strict=True, skipinitialspace=self.padded))


def json_rows(lines: Iterable[str]) -> Iterator[str | BadRow]:
    """Each line as it is, "" where it is blank; a BadRow where it is no JSON object."""
    for line in lines:
        text = line.strip()
        try:
            if text and not isinstance(json.loads(text), dict):
                yield BadRow(text, "it is no JSON object")
                continue
        except (ValueError, RecursionError):
            yield BadRow(text, "it is not JSON")
            continue
        yield text


def rows(lines: Iterable[str], layout: Layout, width: int) -> Iterator[list[str] | BadRow]:
    """The fields of each row, none of a blank line; a BadRow where there are more than `width`, a quote does not
    close, or bytes (as "surrogateescape" leaves them) are not of the encoding.
    """
    waiting = iter(lines)
    ahead: deque[str] = deque()
    while True:
        line = ahead.popleft() if ahead else next(waiting, None)
        if line is None:
            return
        text = line.rstrip("\r\n")
        if not text.strip():
            yield []
        elif not text.isascii() and (wrong := _undecoded(text)) is not None:
            yield BadRow(text, f"its byte {wrong} is not {layout.encoding}, {OTHER_ENCODING}")
        else:
            yield _row(text, line, waiting, ahead, layout, width)


def _row(
    text: str, line: str, waiting: Iterator[str], ahead: deque[str], layout: Layout, width: int
) -> list[str] | BadRow:
    try:
        fields = layout.fields(text)
    except csv.Error:
        joined = _joined(line, waiting, ahead, layout, width)
        fields = joined if joined is not None else text.split(layout.separator)
        if joined is None and len(fields) != width:
            return BadRow(text, "a quote in it does not close")
    if len(fields) > width:
        return BadRow(text, f"it has {len(fields)} fields, the first line {width}")
    return fields


def _joined(
    line: str, waiting: Iterator[str], ahead: deque[str], layout: Layout, width: int
) -> list[str] | None:
    """A row with line breaks in quotes: no line that it takes in may itself be a row. None where there is none."""
    taken = [line]
    while len(taken) < MAX_JOINED:
        following = ahead[len(taken) - 1] if len(taken) <= len(ahead) else next(waiting, None)
        if following is None:
            return None
        if len(taken) > len(ahead):
            ahead.append(following)
        if len(following.rstrip("\r\n").split(layout.separator)) == width > 1:
            return None
        taken.append(following)
        try:
            reader = csv.reader(
                taken, delimiter=layout.separator, strict=True, skipinitialspace=layout.padded
            )
            fields = next(reader)
        except csv.Error:
            continue
        if len(fields) != width or reader.line_num != len(taken):
            return None
        for _ in taken[1:]:
            ahead.popleft()
        return fields
    return None


def _undecoded(text: str) -> str | None:
    """The first byte that "surrogateescape" stands for, as 0xe9."""
    return next((hex(ord(char) - 0xDC00) for char in text if 0xDC80 <= ord(char) <= 0xDCFF), None)
