"""Ramp: from a tenth of the rate to the whole; at which rate does the p99 rise?"""

from footfall_loadtest.profile import ramp
from footfall_loadtest.scenario import Scenario
from footfall_loadtest.source import Arrivals, Source

__all__ = ["Arrivals", "Ramp"]


class Ramp(Source):
    scenario = Scenario(profile=ramp, seconds=60.0)
