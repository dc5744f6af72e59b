"""Scenario: what a load test does, apart from its options."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from footfall.errors import InputError
from footfall_loadtest.options import PROTOCOLS, LoadTestOptions, Protocol
from footfall_loadtest.profile import Profile, steady

FOLDER = Path(__file__).parent / "scenarios"


@dataclass(frozen=True)
class Scenario:
    """`profile`: of the rate and the seconds; `returning`: users come back and say who they are; `swaps`: another
    version is published and rolled back meanwhile.
    """

    profile: Callable[[float, float], Profile] = steady
    seconds: float = 30.0
    protocols: tuple[Protocol, ...] = ("grpc",)
    returning: bool = False
    swaps: bool = False

    def profile_of(self, options: LoadTestOptions) -> Profile:
        return self.profile(options.rate, options.seconds or self.seconds)

    def protocols_of(self, options: LoadTestOptions) -> tuple[Protocol, ...]:
        if options.protocol is None:
            return self.protocols
        return PROTOCOLS if options.protocol == "both" else (options.protocol,)


def scenario_file(name: str) -> Path:
    """Of one of those here, or a path. Raises InputError."""
    path = Path(name) if name.endswith(".py") else FOLDER / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("[a-z]*.py")))
        raise InputError(
            f"there is no scenario {name}; there are {known}, and any file for locust that has a Source"
        )
    return path
