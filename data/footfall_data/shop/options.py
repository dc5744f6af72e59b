"""SimulateOptions: the log that `footfall simulate` makes. Light, so that the command's help is too."""

from dataclasses import dataclass
from typing import Annotated

from footfall.errors import InputError, check_seed
from footfall.flag import Flag


@dataclass(frozen=True)
class SimulateOptions:
    events: Annotated[int, Flag("Rows of the log.")] = 1_000_000
    users: Annotated[int | None, Flag("Left out: in proportion to the events.")] = None
    items: Annotated[int | None, Flag("Left out: in proportion to the events.")] = None
    days: Annotated[int, Flag("Time span of the log.")] = 90
    seed: Annotated[int, Flag("The same seed gives the same bytes.")] = 0

    def __post_init__(self) -> None:
        for name in ("events", "users", "items", "days"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}, it must be at least 1")
        check_seed(self.seed)

    @property
    def num_users(self) -> int:
        return self.users or max(self.events // 25, 10)

    @property
    def num_items(self) -> int:
        return self.items or min(max(self.events // 100, 200), 200_000)
