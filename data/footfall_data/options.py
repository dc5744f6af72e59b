"""PrepareOptions: how `footfall prepare` makes a data set of a log. Light, so that the command's help is too."""

import codecs
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

from footfall.errors import InputError, check_choice
from footfall.flag import Flag
from footfall.history import MS_PER_SECOND
from footfall.times import LATEST_TIME
from footfall_data.logs.presets import preset_named
from footfall_data.logs.units import ORDER, TimeUnit

DEFAULT_REPEAT_SECONDS = 5.0
"""Double clicks, reloads and trackers that fire twice. Honest returns come at any pace: of 1,313 to the same
item in two hours of Taobao, 14 within 5 s but 113 within 30 s."""

MAX_REPEAT_SECONDS = LATEST_TIME // MS_PER_SECOND

PRESET = "retailrocket, online-retail, taobao, movielens, amazon or footfall; else told by its columns."
ACTION = "Action of every event of a log that has no action column. Default: the preset's, else view."
UNIT = "Of numeric times; order: the column numbers events in their order, and no gaps in time are known."
FORMAT = "How text times are written, as in strptime: %d.%m.%Y %H:%M"
ENCODING = "Of text files, such as latin-1, cp1252 or utf-16. Default: by the file's mark, else UTF-8."
STRICT = "Refuse rows with missing fields or ids too long instead of dropping them."
BAD = "Drop and count rows that cannot be read, such as a time that is none; the default refuses the log."
REPEAT = "Drop the same user, item and action again within N seconds; 0: only exact duplicates, -1: nothing."
ROBOT = "Drop users with more than N events in any minute; 0: nobody. Default: the preset's, else 60."


@dataclass(frozen=True)
class PrepareOptions:
    """None leaves the choice to the preset. columns: role (see presets.ROLES) -> the log's column."""

    preset: Annotated[str | None, Flag(PRESET)] = None
    columns: Mapping[str, str] = field(default_factory=dict)
    action: Annotated[str | None, Flag(ACTION)] = None
    time_unit: Annotated[TimeUnit, Flag(UNIT)] = "auto"
    time_format: Annotated[str | None, Flag(FORMAT)] = None
    encoding: Annotated[str | None, Flag(ENCODING)] = None
    items: Annotated[Path | None, Flag("A table of item_id, title, category, price.")] = None
    strict: Annotated[bool, Flag(STRICT)] = False
    drop_bad_rows: Annotated[bool, Flag(BAD)] = False
    keep_cancellations: Annotated[bool, Flag("Do not drop them.")] = False
    repeat_seconds: Annotated[float, Flag(REPEAT, metavar="N")] = DEFAULT_REPEAT_SECONDS
    robot_events_per_minute: Annotated[int | None, Flag(ROBOT, metavar="N")] = None
    k_core: Annotated[int, Flag("Least events of every user and item; 1: any.", metavar="K")] = 2
    extend: Annotated[Path | None, Flag("Continue this data set's vocabularies.")] = None
    overwrite: Annotated[bool, Flag("Replace OUT where it exists.")] = False

    def __post_init__(self) -> None:
        if self.preset is not None:
            preset_named(self.preset)
        if self.encoding is not None:
            _check_encoding(self.encoding)
        check_choice("time unit", self.time_unit, get_args(TimeUnit))
        if self.time_unit == ORDER and self.robot_events_per_minute:
            raise InputError("robot events a minute cannot be counted where the time unit is order")
        if self.repeat_seconds != -1 and not 0 <= self.repeat_seconds <= MAX_REPEAT_SECONDS:
            raise InputError(
                f"repeat seconds are {self.repeat_seconds:g}, expected 0 to {MAX_REPEAT_SECONDS}, or -1 to keep all"
            )
        if (self.robot_events_per_minute or 0) < 0:
            raise InputError(
                f"robot events a minute are {self.robot_events_per_minute}, expected 0 (off) or more"
            )
        if self.k_core < 1:
            raise InputError(f"k-core is {self.k_core}, expected 1 (off) or more")

    @property
    def repeat_ms(self) -> int:
        """As in history.HistoryRules."""
        return -1 if self.repeat_seconds < 0 else round(self.repeat_seconds * MS_PER_SECOND)

    def as_dict(self) -> dict[str, Any]:
        """For the manifest; of paths only the name, so that it says nothing of the machine."""
        return {
            name: value.name if isinstance(value, Path) else value for name, value in asdict(self).items()
        }


def _check_encoding(name: str) -> None:
    """Raises InputError where Python knows no such encoding."""
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise InputError(
            f"unknown encoding {name!r}; expected one such as latin-1, cp1252 or utf-16"
        ) from error
