"""TuneOptions: by what `footfall tune` judges. Light, so that the command's help is too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from footfall.errors import InputError
from footfall.flag import Flag


@dataclass(frozen=True)
class TuneOptions:
    """The objective, and how long to look."""

    dataset: Annotated[Path, Flag("A folder written by `footfall prepare`; histories come from it.")]
    rate: Annotated[float, Flag("Requests a second that the server is to answer.")]
    p99_ms: Annotated[float, Flag("The p99 that it is to keep at that rate, from the intended start.")]
    seconds: Annotated[float, Flag("Of each measurement.")] = 10.0
    rounds: Annotated[int, Flag("Measurements of each setting; their median counts.")] = 3

    def __post_init__(self) -> None:
        for name, value in (("rate", self.rate), ("p99_ms", self.p99_ms), ("seconds", self.seconds)):
            if not value > 0:
                raise InputError(f"{name} is {value:g}, it must be above 0")
        if self.rounds < 1:
            raise InputError(f"rounds is {self.rounds}, it must be at least 1")
