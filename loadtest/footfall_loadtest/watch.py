"""Watch: one load test in the process that reports: what workers send, what the server says, the swaps."""

import time
from typing import Any

import gevent

from footfall.errors import FootfallError
from footfall_loadtest.answers import Answer
from footfall_loadtest.options import LoadTestOptions
from footfall_loadtest.report import Report
from footfall_loadtest.scenario import Scenario
from footfall_loadtest.server_times import ServerTimes
from footfall_loadtest.swap import Swap

LOOKS = 120
"""At the server's metrics, but not more than one a second."""
SWAP_AT, BACK_AT = 0.25, 0.6
"""Of the seconds."""
PATIENCE_S = 5.0
"""With the last answers, beyond the requests' own timeout: workers report every 3 s."""


class Watch:
    """`sources`: processes that generate load."""

    def __init__(self, name: str, scenario: Scenario, options: LoadTestOptions, sources: int) -> None:
        self.sources = sources
        self._name, self._options = name, options
        self._profile = scenario.profile_of(options)
        self._protocols = scenario.protocols_of(options)
        self._swap = Swap(options.repository) if scenario.swaps else None
        self._server = ServerTimes(options.metrics_url)
        self._answers: list[Answer] = []
        self._cpu_s: dict[str, float] = {}
        self._placement: dict[str, None] = {}
        self._swaps: list[dict[str, Any]] = []

    def begin(self, start_at: float) -> None:
        self._start_at = start_at
        self._looker = gevent.spawn(self._look)
        self._swapper = gevent.spawn(self._swap_both) if self._swap else None

    def note(self, worker: str, sent: dict[str, Any]) -> None:
        self._answers += [Answer(*answer) for answer in sent["answers"]]
        self._cpu_s[worker] = sent["cpu_s"]
        self._placement[sent["placement"]] = None

    def is_over(self, users: int) -> bool:
        passed = self._passed()
        if self._swapper is not None and not self._swapper.ready():
            return False  # half a swap would be left
        return passed > self._profile.seconds and (
            users == 0 or passed > self._profile.seconds + self._options.timeout_s + PATIENCE_S
        )

    def end(self) -> None:
        """Write the report."""
        if self._swapper is not None:
            self._swapper.join()
        self._looker.kill()
        self._server.look(self._passed())
        Report(
            scenario=self._name,
            profile=self._profile,
            protocols=self._protocols,
            answers=self._answers,
            server=self._server.rows,
            swaps=self._swaps,
            cpu_s=sum(self._cpu_s.values()),
            processes=self.sources,
            placement="; ".join(self._placement),
        ).write(self._options.out)

    def _look(self) -> None:
        gevent.sleep(max(-self._passed(), 0))
        self._server.begin()
        every = max(1.0, self._profile.seconds / LOOKS)
        while True:
            gevent.sleep(every)
            self._server.look(self._passed())

    def _swap_both(self) -> None:
        assert self._swap is not None
        for share, act in ((SWAP_AT, self._swap.there), (BACK_AT, self._swap.back)):
            gevent.sleep(max(share * self._profile.seconds - self._passed(), 0))
            began, what, error = self._passed(), "", ""
            try:
                what = act()
            except FootfallError as failed:
                error = str(failed)
            self._swaps.append({"what": what, "began_s": began, "ended_s": self._passed(), "error": error})
            if error:
                return

    def _passed(self) -> float:
        return time.time() - self._start_at
