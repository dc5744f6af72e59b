"""RolloutOptions: how `footfall publish` tries a version. Light, so that the command's help is too."""

from dataclasses import dataclass
from typing import Annotated

from footfall.errors import InputError
from footfall.flag import Flag


@dataclass(frozen=True)
class RolloutOptions:
    """How a version is tried; with neither share it is live at once."""

    shadow: Annotated[float, Flag("Share of the requests that both versions answer, to be compared.")] = 0.0
    canary: Annotated[float, Flag("Share of the users whom the new version answers, before all are.")] = 0.0
    stage_s: Annotated[float, Flag("Seconds in the shadow, and again as a canary.")] = 60.0
    min_requests: Annotated[int, Flag("In each of the two; fewer prove nothing, and it is not live.")] = 100
    max_errors: Annotated[
        float, Flag("Share of the requests that the live version answers and it fails.")
    ] = 0.01
    max_latency: Annotated[float, Flag("Its seconds for a request, to the live version's.")] = 2.0
    max_drift: Annotated[
        float, Flag("How far its scores' mean is, in standard deviations of the live ones.")
    ] = 1.0
    min_overlap: Annotated[float, Flag("Of its lists with the live version's.")] = 0.1

    def __post_init__(self) -> None:
        for name in ("shadow", "canary", "max_errors", "min_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"{name.replace('_', ' ')} is {getattr(self, name)}, expected a share in 0..1"
                )
        for name in ("stage_s", "min_requests", "max_latency", "max_drift"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name.replace('_', ' ')} is {getattr(self, name)}, it cannot be below 0")

    @property
    def stages(self) -> list[str]:
        return [name for name in ("shadow", "canary") if getattr(self, name)]


AT_ONCE = RolloutOptions()
