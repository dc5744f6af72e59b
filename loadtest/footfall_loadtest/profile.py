"""Profile: how many requests a second are to arrive, over the time of a load test."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RISE_S = 1.0
"""A burst comes within it."""
BURST = 10
GRID = 10_000


@dataclass(frozen=True)
class Profile:
    """`points`: (second, requests a second), from 0 on, linear between; `phases`: (name, begin, end), seconds."""

    points: tuple[tuple[float, float], ...]
    phases: tuple[tuple[str, float, float], ...]

    @property
    def seconds(self) -> float:
        return self.points[-1][0]

    @property
    def intended(self) -> float:
        """Requests in all, on average."""
        times, rates = np.array(self.points).T
        return float(np.sum(np.diff(times) * (rates[1:] + rates[:-1]) / 2))

    def rate(self, second: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(second, *np.array(self.points).T)

    def moments(self, random: np.random.Generator, share: float = 1.0) -> NDArray[np.float64]:
        """Seconds, ascending: the arrivals of a Poisson process with `share` of the rate, given how many there are.

        Those of several sources whose shares add up to 1 are together one with the whole rate.
        """
        times, rates = np.array(self.points).T
        grid = np.union1d(times, np.linspace(0, self.seconds, GRID))
        rates = np.interp(grid, times, rates)
        steps = np.diff(grid) * (rates[1:] + rates[:-1]) / 2
        arrived = np.concatenate([[0.0], np.cumsum(steps)])
        drawn = np.sort(random.uniform(0, arrived[-1], max(round(arrived[-1] * share), 1)))
        return np.interp(drawn, arrived, grid)


def steady(rate: float, seconds: float) -> Profile:
    return Profile(((0.0, rate), (seconds, rate)), (("steady", 0.0, seconds),))


def ramp(rate: float, seconds: float) -> Profile:
    """From a tenth of the rate to the whole, in quarters for the table."""
    ends = np.linspace(0, seconds, 5).tolist()
    quarters = [(f"quarter {number}", *ends[number - 1 : number + 1]) for number in (1, 2, 3, 4)]
    return Profile(((0.0, rate / 10), (seconds, rate)), tuple(quarters))


def burst(rate: float, seconds: float) -> Profile:
    """Ten times the rate within a second, for a tenth of the time, and back as fast."""
    rise = min(RISE_S, seconds / 20)
    up, down = seconds * 0.4, seconds * 0.5
    points = ((0.0, rate), (up, rate), (up + rise, BURST * rate), (down, BURST * rate), (down + rise, rate))
    phases = (("before", 0.0, up), ("burst", up, down + rise), ("after", down + rise, seconds))
    return Profile((*points, (seconds, rate)), phases)
