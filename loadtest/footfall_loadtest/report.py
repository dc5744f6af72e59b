"""Report: what a load test measured, as report.json and as one page, report.html, that needs nothing beside it."""

import html
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from footfall_loadtest.answers import NO_VERSION, Answer, Measured
from footfall_loadtest.profile import Profile
from footfall_loadtest.server_times import StepTimes

RESULT = "report.json"
PAGE = "report.html"
INTERVALS = 120
"""In the pictures, but none shorter than a second (a tenth of a test that takes less than 10)."""
SOON_MS = 10.0
"""Later than that, the generator has more to do than it can."""
TEMPLATE = Template((Path(__file__).parent / "report.html").read_text())


@dataclass(frozen=True)
class Report:
    """`cpu_s`: of all `processes` that generated load; `placement`: on which cores, a sentence."""

    scenario: str
    profile: Profile
    protocols: Sequence[str]
    answers: Sequence[Answer]
    server: Sequence[StepTimes]
    swaps: Sequence[dict[str, Any]]
    cpu_s: float
    processes: int
    placement: str

    def write(self, out: Path) -> None:
        from footfall_loadtest.pictures import pictures

        out.mkdir(parents=True, exist_ok=True)
        facts = self.facts()
        (out / RESULT).write_text(json.dumps(facts, indent=1) + "\n")
        page = TEMPLATE.substitute(
            scenario=html.escape(self.scenario),
            tables=_table(facts),
            said="".join(f"<p>{html.escape(line)}</p>" for line in sentences(facts)),
            pictures=pictures(facts),
        )
        (out / PAGE).write_text(page)

    def facts(self) -> dict[str, Any]:
        seconds = self.profile.seconds
        by_protocol = {name: [one for one in self.answers if one.protocol == name] for name in self.protocols}
        return {
            "scenario": self.scenario,
            "seconds": seconds,
            "intended_per_second": self.profile.intended / seconds,
            "total": Measured.of(self.answers, 0, seconds).as_json(),
            "protocols": {
                name: Measured.of(mine, 0, seconds).as_json() for name, mine in by_protocol.items()
            },
            "phases": [
                {"phase": name, "begin_s": begin, "end_s": end}
                | Measured.of(self.answers, begin, end).as_json()
                for name, begin, end in self.profile.phases
            ],
            "failures": dict(Counter(one.failure for one in self.answers if one.failure)),
            "versions": dict(
                sorted(Counter(str(one.version) for one in self.answers if one.version != NO_VERSION).items())
            ),
            "generator": self._generator(),
            "swaps": list(self.swaps),
            "timeline": self._timeline(),
            "server": [row.as_json() for row in self.server],
        }

    def _generator(self) -> dict[str, Any]:
        """What the load test cost, and how late its requests left."""
        late = [one.late_ms for one in self.answers] or [0.0]
        return {
            "processes": self.processes,
            "cpu_ms_per_request": 1000 * self.cpu_s / max(len(self.answers), 1),
            "busy_cores": self.cpu_s / self.profile.seconds,
            "late_p99_ms": float(np.percentile(late, 99)),
            "placement": self.placement,
        }

    def _timeline(self) -> list[dict[str, Any]]:
        """By when requests were to leave."""
        seconds = self.profile.seconds
        count = int(np.clip(seconds, 10, INTERVALS))
        edges = np.linspace(0, seconds, count + 1)
        parts: list[list[Answer]] = [[] for _ in range(count)]
        for one in self.answers:
            parts[min(int(one.due_s / seconds * count), count - 1)].append(one)
        rates = self.profile.rate((edges[1:] + edges[:-1]) / 2)
        return [
            {"begin_s": begin, "end_s": end, "intended_per_second": rate}
            | Measured.of(part, 0, end).as_json()
            | {"requests_per_second": sum(not one.failure for one in part) / (end - begin)}
            for begin, end, rate, part in zip(
                edges[:-1].tolist(), edges[1:].tolist(), rates.tolist(), parts, strict=True
            )
        ]


def sentences(facts: dict[str, Any]) -> list[str]:
    """What a reader must know beside the figures."""
    generator = facts["generator"]
    lines = [
        f"Generator: {generator['cpu_ms_per_request']:.2f} ms of CPU a request, {generator['busy_cores']:.2f} cores"
        f" busy, in {generator['processes']} process(es); {generator['placement']}."
    ]
    if generator["late_p99_ms"] > SOON_MS:
        lines.append(
            f"Requests left up to {generator['late_p99_ms']:.0f} ms late (p99): the generator or machine had too"
            " much to do, and the latencies count that; give it more processes or cores."
        )
    if len(facts["versions"]) > 1:
        shares = ", ".join(f"version {name} {count:,}" for name, count in facts["versions"].items())
        lines.append(f"Answers by version: {shares}.")
    for swap in facts["swaps"]:
        what = swap["error"] or swap["what"]
        lines.append(f"{what}: from {swap['began_s']:.1f} s to {swap['ended_s']:.1f} s.")
    lines += [f"{count:,} requests failed: {kind}" for kind, count in facts["failures"].items()]
    return lines


def rows(facts: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Of the table: protocols, and phases where there are several."""
    phases = facts["phases"] if len(facts["phases"]) > 1 else []
    return [*facts["protocols"].items(), *((phase["phase"], phase) for phase in phases)]


def _table(facts: dict[str, Any]) -> str:
    heads = ("", "requests", "failures", "answered/s", "p50 ms", "p95 ms", "p99 ms", "max ms")
    lines = ["<tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for name, one in rows(facts):
        cells = [
            *(name, f"{one['requests']:,}", f"{one['failures']:,}", f"{one['requests_per_second']:,.1f}"),
            *(f"{one[key]:,.1f}" for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms")),
        ]
        lines.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return "<table>" + "".join(lines) + "</table>"
