"""Tune: which settings of a server keep the p99 lowest at a rate, one setting after the other."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from footfall.errors import InputError

Settings = dict[str, Any]
Measure = Callable[[Settings], float]
"""The p99 in milliseconds of a server with these settings."""
MARGIN = 0.1
"""A value must be better than the one there is by this share, in every round: less is the machine's noise."""


@dataclass(frozen=True)
class Trial:
    """One value of a setting, beside the others' best so far."""

    settings: Settings
    p99_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.p99_ms)

    def beats(self, other: "Trial") -> bool:
        rounds = zip(self.p99_ms, other.p99_ms, strict=True)
        return all(mine < theirs * (1 - MARGIN) for mine, theirs in rounds)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"median_ms": self.median_ms}


@dataclass
class Search:
    """`choices`: of each setting the values to try; the first of each is what there is."""

    choices: Mapping[str, Sequence[Any]]
    rounds: int = 2
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"rounds is {self.rounds}, it must be at least 1")

    def best(self, measure: Measure, say: Callable[[str], None]) -> Trial:
        """The settings kept at the end, as they were measured last."""
        kept = Trial({name: values[0] for name, values in self.choices.items()}, ())
        for name, values in self.choices.items():
            if len(values) == 1 and kept.p99_ms:
                continue
            tried = self._measured([kept.settings | {name: value} for value in values], measure)
            self.trials += tried
            better = [trial for trial in tried if trial.beats(tried[0])]
            kept = min(better or tried[:1], key=lambda trial: trial.median_ms)
            times = ", ".join(f"{trial.settings[name]}: {trial.median_ms:.1f} ms" for trial in tried)
            say(f"{name} {times}; kept {kept.settings[name]}")
        return kept

    def _measured(self, settings: Sequence[Settings], measure: Measure) -> list[Trial]:
        """In turn, forth and back, so that what disturbs the machine disturbs all."""
        times: list[list[float]] = [[] for _ in settings]
        for turn in range(self.rounds):
            order = range(len(settings)) if turn % 2 == 0 else reversed(range(len(settings)))
            for place in order:
                times[place].append(measure(settings[place]))
        return [Trial(one, tuple(found)) for one, found in zip(settings, times, strict=True)]
