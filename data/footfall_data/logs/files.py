"""Log files: finding them, telling their format by their names, and scanning them lazily with polars."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from footfall.errors import InputError, shortened

SEPARATORS = {
    ".csv": ",",
    ".dat": ",",
    ".psv": "|",
    ".tsv": "\t",
    ".inter": "\t",
    ".item": "\t",
    ".data": "\t",
}
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
COMPRESSED = (".gz", ".zst")
FORMATS = "CSV, TSV, JSON lines (each also .gz or .zst) or Parquet"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Text:
    """How the columns of a CSV or TSV lie: their names, what parts them, the lines before the first row and whether
    the last of them is a header, whether quotes enclose fields, and the columns with spaces around their names, which
    their values have too.
    """

    columns: tuple[str, ...]
    separator: str
    skipped_lines: int
    has_header: bool
    quoted: bool
    padded: tuple[str, ...] = ()


@dataclass(frozen=True)
class LogFile:
    """One file of a log. `name`: for people, without the machine's folders; `content`: where its rows are read, a
    copy in UTF-8 where the file itself is no plain text (see opening); `partitions`: columns that its path tells;
    `text`: of CSV and TSV; `keys`: of JSON lines.
    """

    path: Path
    name: str
    suffix: str
    content: Path
    partitions: tuple[tuple[str, str | None], ...] = ()
    text: Text | None = None
    keys: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        return self.suffix not in PARQUET

    def columns(self) -> list[str]:
        """Those of the path last. Raises InputError where the file cannot be read."""
        inside = [name for name in self._inside() if name not in dict(self.partitions)]
        return [*inside, *(name for name, _ in self.partitions)]

    def _inside(self) -> Sequence[str]:
        if self.text is not None:
            return self.text.columns
        if self.suffix in JSON_LINES:
            return self.keys
        with reading(self):
            return pl.scan_parquet(self.content, glob=False).collect_schema().names()

    def scan(self, wanted: Mapping[str, str]) -> pl.LazyFrame:
        """The columns `wanted` (name in the result -> the file's), lazily; of text files all String."""
        partitions = dict(self.partitions)
        inside = [column for column in wanted.values() if column not in partitions]
        padded = self.text.padded if self.text is not None else ()
        return self._rows(inside).select(
            (
                pl.lit(partitions[column], dtype=pl.String)
                if column in partitions
                else pl.col(column).str.strip_chars()
                if column in padded
                else pl.col(column)
            ).alias(name)
            for name, column in wanted.items()
        )

    def _rows(self, columns: Sequence[str]) -> pl.LazyFrame:
        if self.suffix in PARQUET:
            return pl.scan_parquet(self.content, glob=False, hive_partitioning=False)
        if self.text is None:
            return pl.scan_ndjson(self.content, schema=dict.fromkeys(columns, pl.String()))
        names = list(self.text.columns)
        return pl.scan_csv(
            self.content,
            separator=self.text.separator,
            quote_char='"' if self.text.quoted else None,
            infer_schema=False,
            has_header=self.text.has_header,
            with_column_names=lambda _: names,
            skip_lines=self.text.skipped_lines - self.text.has_header,
            glob=False,
        )


@contextmanager
def reading(file: LogFile) -> Iterator[None]:
    """Turn what polars says about a broken file into one sentence that names it."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, EOFError) as error:
        raise damaged(file.path, shortened(str(error).strip().splitlines()[0], 200)) from error


def damaged(path: Path, reason: str, row: int | None = None) -> InputError:
    """`row` from 1, where it is known."""
    where = "" if row is None else f" (row {row})"
    return InputError(f"{path} cannot be read, it is damaged or not what its name says{where}: {reason}")


def find_logs(paths: Sequence[Path]) -> list[LogFile]:
    """The files of `paths`, a folder standing for every log file below it by name. Raises InputError.

    Below a folder, names that begin with a dot or an underscore are no part of the log (Spark's _temporary).
    """
    files: list[LogFile] = []
    for path in paths:
        if not path.is_dir():
            files.append(log_file(path))
            continue
        inside = [below for below in sorted(path.rglob("*")) if _is_log(below.relative_to(path), below)]
        if not inside:
            raise InputError(f"{path} holds no log file; expected {FORMATS}")
        files += [log_file(below, path) for below in inside]
    return files


def log_file(path: Path, folder: Path | None = None) -> LogFile:
    """`folder`: the one it was found below. Raises InputError where there is no such file or no format to read."""
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    suffix = _suffix(path)
    if suffix is None:
        raise InputError(f"{path} is not a log by its name; expected {FORMATS}")
    return LogFile(path, _name(path, folder), suffix, path, _partitions(path))


def _name(path: Path, folder: Path | None) -> str:
    """The path from the folder named on, else from the first one that tells a column."""
    if folder is not None:
        return str(Path(folder.resolve().name) / path.relative_to(folder))
    first = next((at for at, part in enumerate(path.parts[:-1]) if part.find("=") > 0), -1)
    return str(Path(*path.parts[first:]))


def _partitions(path: Path) -> tuple[tuple[str, str | None], ...]:
    """The columns that folders named column=value tell, as Hive, Spark and Arrow write them."""
    pairs = [part.split("=", 1) for part in path.parts[:-1] if part.find("=") > 0]
    return tuple((unquote(name), None if value == NO_VALUE else unquote(value)) for name, value in pairs)


def _is_log(below: Path, path: Path) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in below.parts)
    return not hidden and path.is_file() and _suffix(path) is not None


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    if name.startswith("."):
        return None
    stem = next((name.removesuffix(end) for end in COMPRESSED if name.endswith(end)), name)
    suffix = Path(stem).suffix
    if suffix in SEPARATORS or suffix in JSON_LINES or (suffix in PARQUET and stem == name):
        return suffix
    return None
