"""Burst: ten times the rate within a second, for a tenth of the time; who is refused, and is all well afterwards?"""

from footfall_loadtest.profile import burst
from footfall_loadtest.scenario import Scenario
from footfall_loadtest.source import Arrivals, Source

__all__ = ["Arrivals", "Burst"]


class Burst(Source):
    scenario = Scenario(profile=burst)
