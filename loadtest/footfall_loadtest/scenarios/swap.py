"""Swap: another version is published and rolled back meanwhile; does any request fail or wait?"""

from footfall_loadtest.scenario import Scenario
from footfall_loadtest.source import Arrivals, Source

__all__ = ["Arrivals", "Swap"]


class Swap(Source):
    scenario = Scenario(swaps=True, seconds=60.0)
