"""Returning: users come back with a few new events each time and send their user_id; what does the cache save?"""

from footfall_loadtest.scenario import Scenario
from footfall_loadtest.source import Arrivals, Source

__all__ = ["Arrivals", "Returning"]


class Returning(Source):
    scenario = Scenario(returning=True)
