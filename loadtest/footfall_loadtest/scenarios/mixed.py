"""Mixed: each request at random over gRPC or HTTP."""

from footfall_loadtest.options import PROTOCOLS
from footfall_loadtest.scenario import Scenario
from footfall_loadtest.source import Arrivals, Source

__all__ = ["Arrivals", "Mixed"]


class Mixed(Source):
    scenario = Scenario(protocols=PROTOCOLS)
