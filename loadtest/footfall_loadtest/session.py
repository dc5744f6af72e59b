"""Session: one load test in one process that generates load."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import numpy as np

from footfall.errors import NotReadyError
from footfall_client import Client
from footfall_loadtest.answers import Answer
from footfall_loadtest.generator import Cost, keep_apart
from footfall_loadtest.options import LoadTestOptions, Protocol
from footfall_loadtest.scenario import Scenario
from footfall_loadtest.workload import Request, Workload

MOST_DRAWN = 2048
"""Requests drawn before the start, as each takes 0.2 ms, and sent in turn."""


class Session:
    """`sources` of all processes share the rate; `number` is this process's among them."""

    def __init__(self, scenario: Scenario, options: LoadTestOptions, sources: int, number: int) -> None:
        self.options = options
        self.answers: list[Answer] = []
        self._cost = Cost()
        self._protocols = scenario.protocols_of(options)
        self._random = np.random.default_rng((options.seed, number))
        self._moments = scenario.profile_of(options).moments(self._random, 1 / sources)
        workload = Workload(options.dataset, options.max_events, options.seed)
        drawn = workload.visitors(number) if scenario.returning else workload.strangers(number)
        self._requests = list(islice(drawn, min(MOST_DRAWN, len(self._moments))))
        # Retries would hide failures and stretch the times.
        tls = str(options.tls_root) if options.tls_root else False
        self._clients = {
            protocol: Client(options.url(protocol), protocol, timeout=options.timeout_s, retries=0, tls=tls)
            for protocol in self._protocols
        }

        self._placement = keep_apart([options.url(protocol) for protocol in self._protocols])

    def connect(self) -> None:
        """So that the first request does not pay for it. Raises NotReadyError."""
        for protocol, client in self._clients.items():
            if not client.ready():
                raise NotReadyError(f"no model is ready at {self.options.url(protocol)} ({protocol})")

    def plan(self) -> Iterator[tuple[float, Protocol, Request]]:
        """When each request is to leave, in seconds from the start; visitors of another round are others."""
        chosen = self._random.integers(len(self._protocols), size=len(self._moments))
        for number, moment, protocol in zip(count(), self._moments, chosen, strict=False):
            turn, place = divmod(number, len(self._requests))
            request = self._requests[place]
            if request.user is not None:
                request = request._replace(user=f"{request.user}.{turn}")
            yield float(moment), self._protocols[protocol], request

    def begin(self) -> None:
        self._cost.begin()

    def taken(self) -> dict[str, Any]:
        """What came since this was asked last, for the process that reports."""
        answers, self.answers = self.answers, []
        return {"answers": answers, "cpu_s": self._cost.cpu_s, "placement": self._placement}

    def client(self, protocol: Protocol) -> Client:
        return self._clients[protocol]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
