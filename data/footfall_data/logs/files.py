"""Log files: finding them, telling their format by their names, and scanning them lazily with polars."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from footfall.errors import InputError, shortened
from footfall_data.logs.damage import broken_row
from footfall_data.logs.presets import PRESETS, Preset

SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".item": "\t", ".data": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
COMPRESSED = (".gz", ".zst")
FORMATS = "CSV, TSV, JSON lines (each also .gz or .zst) or Parquet"


@dataclass(frozen=True)
class LogFile:
    """One file of a log. `headerless` names the columns of a text file that has no header line."""

    path: Path
    suffix: str
    headerless: tuple[str, ...] = ()

    def scan(self) -> pl.LazyFrame:
        """The file's rows, lazily; text columns of CSV and TSV are all String."""
        if self.suffix in PARQUET:
            return pl.scan_parquet(self.path, glob=False)
        if self.suffix in JSON_LINES:
            return pl.scan_ndjson(self.path, infer_schema_length=10_000)
        return pl.scan_csv(
            self.path,
            separator=SEPARATORS[self.suffix],
            # A quote inside a tab-separated field is text, not quoting.
            quote_char='"' if SEPARATORS[self.suffix] == "," else None,
            infer_schema=False,
            has_header=not self.headerless,
            new_columns=self.headerless or None,
            glob=False,
        )

    def columns(self) -> list[str]:
        """Raises InputError where the file is empty or cannot be read."""
        if self.path.stat().st_size == 0:
            raise InputError(f"{self.path} is empty: it holds no events")
        with reading(self):
            return self.scan().collect_schema().names()

    def broken_row(self) -> int | None:
        """See damage.broken_row."""
        if self.suffix in PARQUET:
            return None
        return broken_row(self.path, SEPARATORS.get(self.suffix), headerless=bool(self.headerless))


@contextmanager
def reading(file: LogFile) -> Iterator[None]:
    """Turn what polars says about a broken file into one sentence that names it and, where it tells, the row."""
    try:
        yield
    except pl.exceptions.NoDataError as error:
        raise InputError(f"{file.path} is empty: it holds no events") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = shortened(str(error).strip().splitlines()[0], 200)
        row = file.broken_row()
        where = "" if row is None else f" (row {row})"
        raise InputError(
            f"{file.path} cannot be read, it is damaged or not what its name says{where}: {reason}"
        ) from error


def find_logs(paths: Sequence[Path]) -> list[LogFile]:
    """The files of `paths`, a folder standing for every log file below it by name. Raises InputError."""
    files = []
    for path in paths:
        if path.is_dir():
            inside = [below for below in sorted(path.rglob("*")) if below.is_file() and _suffix(below)]
            if not inside:
                raise InputError(f"{path} holds no log file; expected {FORMATS}")
            files += inside
        else:
            files.append(path)
    return [log_file(path) for path in files]


def log_file(path: Path) -> LogFile:
    """Raises InputError where there is no such file or its name tells no format that can be read."""
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    suffix = _suffix(path)
    if suffix is None:
        raise InputError(f"{path} is not a log by its name; expected {FORMATS}")
    return LogFile(path, suffix)


def with_header(file: LogFile, preset: Preset | None) -> LogFile:
    """The file as it is, or with column names where `preset` (None: any) knows it without a header line."""
    if file.suffix not in SEPARATORS:
        return file
    found = file.columns()
    for known in PRESETS if preset is None else (preset,):
        if _lacks_header(found, SEPARATORS[file.suffix], known):
            return replace(file, headerless=known.headerless)
    return file


def _lacks_header(first_line: Sequence[str], separator: str, preset: Preset) -> bool:
    if len(first_line) != len(preset.headerless) or separator != preset.headerless_separator:
        return False
    time_at = next(at for at, name in enumerate(preset.headerless) if name in preset.time)
    return first_line[time_at].split("_")[0].isdigit()


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    if name.startswith("."):
        return None
    stem = next((name.removesuffix(end) for end in COMPRESSED if name.endswith(end)), name)
    suffix = Path(stem).suffix
    if suffix in SEPARATORS or suffix in JSON_LINES or (suffix in PARQUET and stem == name):
        return suffix
    return None
