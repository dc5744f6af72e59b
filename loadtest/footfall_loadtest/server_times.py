"""ServerTimes: how long requests wait and compute in each step of the server, by its own metrics, over time."""

import re
import urllib.request
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from footfall.contract import ENSEMBLE

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
COUNTER = re.compile(r'^nv_inference_(\w+)\{model="([^"]+)",version="(\d+)"\} (\d+)', re.MULTILINE)
COMPUTE = ("compute_input_duration_us", "compute_infer_duration_us", "compute_output_duration_us")
Counters = dict[tuple[str, int], dict[str, int]]


@dataclass(frozen=True)
class StepTimes:
    """Of one step of one version between two looks: milliseconds a request, and requests a batch."""

    second: float
    model: str
    version: int
    requests: int
    queue_ms: float
    compute_ms: float
    requests_per_batch: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class ServerTimes:
    """`url`: host:port of the metrics; "" asks nobody."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._last: Counters = {}
        self.rows: list[StepTimes] = []

    def begin(self) -> None:
        self._last = self._read()

    def look(self, second: float) -> None:
        """Note what came since the last look. A step that was loaded anew counts from 0."""
        counters = self._read()
        for (model, version), now in sorted(counters.items()):
            before = self._last.get((model, version), {})
            if now.get("count", 0) < before.get("count", 0):
                before = {}
            new = {name: value - before.get(name, 0) for name, value in now.items()}
            if requests := new.get("count", 0):
                compute_us = sum(new.get(name, 0) for name in COMPUTE)
                queue_ms = new.get("queue_duration_us", 0) / requests / 1000
                batch = requests / max(new.get("exec_count", 0), 1)
                row = StepTimes(
                    second, model, version, requests, queue_ms, compute_us / requests / 1000, batch
                )
                self.rows.append(row)
        self._last = counters or self._last

    def _read(self) -> Counters:
        """Of each step; empty where nobody answers: a server that is started again tells it later."""
        if not self._url:
            return {}
        try:
            with NO_PROXY.open(f"http://{self._url}/metrics", timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        counters: Counters = defaultdict(dict)
        for name, model, version, value in COUNTER.findall(text):
            if model != ENSEMBLE:
                counters[model, int(version)][name] = int(value)
        return counters
