"""Soak: one rate for an hour; does anything grow, slow down or fail?"""

from footfall_loadtest.scenario import Scenario
from footfall_loadtest.source import Arrivals, Source

__all__ = ["Arrivals", "Soak"]


class Soak(Source):
    scenario = Scenario(seconds=3600.0)
