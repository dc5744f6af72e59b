"""Opening: what a log's file needs before polars reads it as it is meant: unpacking, encoding, separator, quotes."""

import codecs
import csv
import gzip
import json
import re
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO

import polars as pl

from footfall.errors import InputError, shortened
from footfall.folder import writing
from footfall_data.cleaning.dropped import BAD_ROW, Dropped
from footfall_data.logs.files import JSON_LINES, PARQUET, SEPARATORS, LogFile, Text, damaged, reading
from footfall_data.logs.presets import PRESETS, Preset
from footfall_data.logs.quotes import has_quotes, quotes_are_regular
from footfall_data.logs.records import BadRow, Layout, json_rows, rows

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UTF8 = ("utf-8", "utf-8-sig")
MANY_CHARACTERS = ("::",)
"""Separators that polars cannot take."""
SEPARATOR_LINE = re.compile("^\ufeff?sep=(.)$")
"""Spreadsheets write it before the header."""
KEY_LINES = 10_000
"""Lines of a JSON file that are looked at for its keys."""


@dataclass(frozen=True)
class Opening:
    """`encoding` None: by the file's mark, else UTF-8. Copies go to `scratch`, bad rows are counted in `dropped`."""

    encoding: str | None
    drop_bad_rows: bool
    preset: Preset | None
    scratch: Path
    dropped: Dropped

    def __call__(self, file: LogFile) -> LogFile | None:
        """The file ready to scan, None where it has no byte. Raises InputError where it is not what it should be."""
        if file.path.stat().st_size == 0:
            return None
        if file.suffix in PARQUET:
            return file
        if file.suffix not in JSON_LINES or self.encoding or self.drop_bad_rows:
            file = self._unpacked(file)
        if file.content.stat().st_size == 0:
            return None
        encoding = self._encoding_of(file)
        if file.suffix in JSON_LINES:
            return self._open_json(file, encoding)
        return self._open_text(file, encoding)

    def _open_json(self, file: LogFile, encoding: str) -> LogFile:
        if self.drop_bad_rows or encoding != UTF8[0]:
            copy = self._copy_of(file)
            with _lines(file.content, encoding) as lines, copy.open("w", encoding="utf-8") as out:
                for number, row in enumerate(json_rows(lines), start=1):
                    out.write((self._bad(file, number, row) if isinstance(row, BadRow) else row) or "{}")
                    out.write("\n")
            file = replace(file, content=copy)
        with reading(file):
            first = pl.scan_lines(file.content, glob=False).head(KEY_LINES).collect()["line"].to_list()
        if not any(line.strip() for line in first):
            raise InputError(f"{file.path} is empty: it holds no events")
        if first[0].lstrip().startswith("["):
            raise damaged(file.path, "it is one JSON array, expected JSON lines: an object on every line", 1)
        keys: dict[str, None] = {}
        for number, row in enumerate(json_rows(first), start=1):
            if isinstance(row, BadRow):
                self._bad(file, number, row)
            keys |= dict.fromkeys(json.loads(row or "{}"))  # type: ignore[arg-type]
        return replace(file, keys=tuple(keys))

    def _open_text(self, file: LogFile, encoding: str) -> LogFile:
        with _lines(file.content, encoding) as lines:
            head = list(islice(lines, 100))
        blank = next((at for at, line in enumerate(head) if line.strip()), len(head))
        if blank == len(head):
            raise InputError(f"{file.path} is empty: it holds no events")
        first = head[blank].rstrip("\r\n")
        if "\0" in first:
            raise damaged(
                file.path, "it holds bytes of 0; UTF-16 is read with --encoding utf-16-le or utf-16-be"
            )
        separator = _separator(first, SEPARATORS[file.suffix])
        if (said := SEPARATOR_LINE.match(first)) and blank + 1 < len(head):
            blank, separator = blank + 1, said[1]
            first = head[blank].rstrip("\r\n")
        # A quote inside a tab-separated field is text, not quoting.
        quoted = separator not in ("\t", *MANY_CHARACTERS) and has_quotes(file.content)
        text = _text(first, separator, quoted, blank, self.preset, file)
        old_line_ends = any(line.endswith("\r") for line in head)
        regular = not quoted or (encoding in UTF8 and quotes_are_regular(file.content, separator))
        if (
            encoding in UTF8
            and regular
            and not (self.drop_bad_rows or old_line_ends or separator in MANY_CHARACTERS)
        ):
            return replace(file, text=text)
        layout = Layout(separator, quoted, bool(text.padded), encoding)
        return replace(
            file,
            content=self._rewritten(file, encoding, text, layout),
            text=replace(text, separator=",", quoted=True, skipped_lines=1, has_header=True),
        )

    def _rewritten(self, file: LogFile, encoding: str, text: Text, layout: Layout) -> Path:
        """A CSV of header and rows in UTF-8, a blank line for a bad one so that rows keep their numbers."""
        copy = self._copy_of(file)
        with _lines(file.content, encoding) as lines, copy.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(text.columns)
            waiting = islice(lines, text.skipped_lines, None)
            for number, row in enumerate(rows(waiting, layout, len(text.columns)), start=1):
                if isinstance(row, BadRow):
                    self._bad(file, number, row)
                    row = []
                writer.writerow(row)
        return copy

    def _bad(self, file: LogFile, number: int, row: BadRow) -> str:
        """Counts a bad row, or raises InputError; nothing is left of it."""
        if not self.drop_bad_rows:
            reason = f"{row.reason} (--drop-bad-rows drops and counts such rows): {shortened(row.text, 60)}"
            raise damaged(file.path, reason, number)
        example = {"file": file.name, "row": number, "values": {"text": shortened(row.text, 100)}}
        self.dropped.add(BAD_ROW, 1, [example])
        return ""

    def _encoding_of(self, file: LogFile) -> str:
        if self.encoding is not None and (name := codecs.lookup(self.encoding).name) not in UTF8:
            return name
        with reading(file), _binary(file.content) as content:
            head = content.read(4)
        return next((name for mark, name in MARKS if head.startswith(mark)), UTF8[0])

    def _unpacked(self, file: LogFile) -> LogFile:
        if file.content.suffix.lower() not in (".gz", ".zst"):
            return file
        copy = self._copy_of(file)
        with writing(copy), copy.open("wb") as out, reading(file):
            try:
                if file.path.suffix.lower() == ".gz":
                    with gzip.open(file.path) as packed:
                        shutil.copyfileobj(packed, out)
                else:
                    for batch in pl.scan_lines(file.path, glob=False).collect_batches(chunk_size=100_000):
                        out.writelines(line.encode() + b"\n" for line in batch["line"])
            except zlib.error as error:
                raise damaged(file.path, str(error)) from error
        return replace(file, content=copy)

    def _copy_of(self, file: LogFile) -> Path:
        return self.scratch / f"{len(list(self.scratch.iterdir()))}{file.suffix}"


@contextmanager
def scanning(file: LogFile) -> Iterator[None]:
    """As files.reading, with the row that is broken: looked for, row by row, only once polars has failed."""
    try:
        with reading(file):
            yield
    except InputError as error:
        bad = None if error.__cause__ is None else _first_bad_row(file)
        if bad is None:
            raise
        raise damaged(file.path, bad[1], bad[0]) from error


def _first_bad_row(file: LogFile) -> tuple[int, str] | None:
    """The first data row, from 1, that cannot be read, and why."""
    if not file.is_text or file.content.suffix.lower() == ".zst":
        return None
    with _lines(file.content, UTF8[1]) as lines:
        if file.text is None:
            found: Iterator[object] = json_rows(lines)
        else:
            layout = Layout(file.text.separator, file.text.quoted, bool(file.text.padded))
            found = rows(islice(lines, file.text.skipped_lines, None), layout, len(file.text.columns))
        for number, row in enumerate(found, start=1):
            if isinstance(row, BadRow):
                return number, row.reason
    return None


@contextmanager
def _lines(path: Path, encoding: str) -> Iterator[Iterator[str]]:
    """Lines with their ends; a byte that is not of the encoding stays as "surrogateescape" leaves it."""
    try:
        with _binary(path) as content:
            yield TextIOWrapper(content, encoding, errors="surrogateescape", newline="")
    except UnicodeError as error:
        raise damaged(path, f"its text is not {encoding}: {error}") from error


def _binary(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _separator(first_line: str, usual: str) -> str:
    """What parts the first line into most columns; the format's own where it parts it as well."""
    candidates = (usual, ",", "\t", ";", "|", *MANY_CHARACTERS)
    return max(candidates, key=first_line.count)


def _text(first: str, separator: str, quoted: bool, blank: int, preset: Preset | None, file: LogFile) -> Text:
    try:
        names = Layout(separator, quoted).fields(first)
    except csv.Error:
        names = first.split(separator)
    names[0] = names[0].removeprefix("\ufeff")
    padded = [name != name.strip() for name in names]
    names = [name.strip().strip('"') if quoted else name.strip() for name in names]
    for known in PRESETS if preset is None else (preset,):
        if _lacks_header(names, separator, known):
            return Text(known.headerless, separator, blank, False, quoted)
    columns = tuple(_unique(names))
    return Text(
        columns,
        separator,
        blank + 1,
        True,
        quoted,
        tuple(c for c, p in zip(columns, padded, strict=True) if p),
    )


def _unique(names: Sequence[str]) -> Iterator[str]:
    """A name that comes again gets a number, so that it is no role's column."""
    for at, name in enumerate(names):
        again = names[:at].count(name)
        yield f"{name} ({again + 1})" if again else name


def _lacks_header(first_line: Sequence[str], separator: str, preset: Preset) -> bool:
    if len(first_line) != len(preset.headerless) or separator not in preset.headerless_separators:
        return False
    time_at = next(at for at, name in enumerate(preset.headerless) if name in preset.time)
    return first_line[time_at].isdigit()
