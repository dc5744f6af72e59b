"""Steady: one rate over gRPC."""

from footfall_loadtest.scenario import Scenario
from footfall_loadtest.source import Arrivals, Source

__all__ = ["Arrivals", "Steady"]


class Steady(Source):
    scenario = Scenario()
