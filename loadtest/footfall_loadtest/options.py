"""LoadTestOptions: what `footfall loadtest` asks of a server. Light, so that the command's help is too."""

from dataclasses import dataclass
from typing import Annotated

from footfall.errors import InputError
from footfall.flag import Flag

PROTOCOLS = ("grpc", "http")


@dataclass(frozen=True)
class LoadTestOptions:
    """`users` are of each protocol."""

    protocols: tuple[str, ...] = PROTOCOLS
    users: Annotated[int, Flag("Clients of each protocol, each asking again when answered.")] = 8
    seconds: Annotated[float, Flag("How long.")] = 10.0
    top_k: Annotated[
        int | None, Flag("Length of the lists asked for; left out: the default of the server.")
    ] = None
    max_events: Annotated[int, Flag("Longest history sent.")] = 200

    def __post_init__(self) -> None:
        unknown = set(self.protocols) - set(PROTOCOLS)
        if unknown or not self.protocols:
            raise InputError(
                f"unknown protocol {', '.join(unknown) or 'none'}; there are {', '.join(PROTOCOLS)}"
            )
        if self.users < 1 or self.seconds <= 0:
            raise InputError(f"users {self.users} must be at least 1 and seconds {self.seconds:g} above 0")
