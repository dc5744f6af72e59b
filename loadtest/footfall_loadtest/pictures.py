"""Pictures: latencies, rates and the server's own times over the time of a load test, as SVG."""

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

PERCENTILES = {"p50_ms": "#4c9be8", "p95_ms": "#e8a33d", "p99_ms": "#d1495b"}
SHADE, SWAP = "#00000014", "#7b5ea733"
LIGHTER = 0.45


def pictures(facts: dict[str, Any]) -> str:
    """One figure; its parts share the axis of time."""
    has_server = bool(facts["server"])
    heights = [3.0, 2.2, 3.0][: 2 + has_server]
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    parts: Sequence[Axes] = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _latencies(parts[0], facts["timeline"])
    _rates(parts[1], facts["timeline"])
    if has_server:
        _server(parts[2], facts["server"])
    for axes in parts:
        _mark(axes, facts)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    parts[-1].set(xlabel="seconds", xlim=(0, facts["seconds"]))
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    text = drawn.getvalue()
    return text[text.index("<svg") :]


def _latencies(axes: Axes, timeline: Sequence[dict[str, Any]]) -> None:
    asked = [part for part in timeline if part["requests"]]
    middles = [(part["begin_s"] + part["end_s"]) / 2 for part in asked]
    for name, colour in PERCENTILES.items():
        axes.plot(middles, [part[name] for part in asked], color=colour, label=name[:3], linewidth=1.6)
    axes.set(ylabel="latency, ms", yscale="log", title="Latency from the intended start")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))


def _rates(axes: Axes, timeline: Sequence[dict[str, Any]]) -> None:
    edges = [timeline[0]["begin_s"], *(part["end_s"] for part in timeline)]
    answered = [part["requests_per_second"] for part in timeline]
    failed = [part["failures"] / (part["end_s"] - part["begin_s"]) for part in timeline]
    axes.stairs(answered, edges, fill=True, color="#9cc5a1", label="answered")
    if any(failed):
        stacked = np.add(answered, failed)
        axes.stairs(stacked, edges, baseline=answered, fill=True, color="#d1495b", label="failed")
    middles = [(part["begin_s"] + part["end_s"]) / 2 for part in timeline]
    axes.plot(middles, [part["intended_per_second"] for part in timeline], "k--", lw=1, label="intended")
    axes.set(ylabel="requests/s", title="Rate, by the intended start", ylim=(0, None))


def _server(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    """Stacked: of each step the queue, lighter, and the computation; the mean over its versions by requests."""
    moments = sorted({row["second"] for row in rows})
    edges = [0.0, *moments] if moments[0] > 0 else moments
    base = np.zeros(len(edges) - 1)
    for number, step in enumerate(dict.fromkeys(row["model"] for row in rows)):
        for key, alpha in (("queue_ms", LIGHTER), ("compute_ms", 1.0)):
            times = np.array([_mean(rows, step, key, end) for _, end in pairwise(edges)])
            axes.stairs(
                base + times,
                edges,
                baseline=base,
                fill=True,
                color=f"C{number}",
                alpha=alpha,
                label=f"{step}, {key[:-3]}",
            )
            base = base + times
    axes.set(ylabel="ms a request", title="The server's own split: queue and compute of each step, mean")


def _mean(rows: Sequence[dict[str, Any]], step: str, key: str, second: float) -> float:
    mine = [row for row in rows if row["model"] == step and row["second"] == second]
    requests = sum(row["requests"] for row in mine)
    return sum(row[key] * row["requests"] for row in mine) / requests if requests else 0.0


def _mark(axes: Axes, facts: dict[str, Any]) -> None:
    """Every other phase, and the swaps."""
    for phase in facts["phases"][1::2]:
        axes.axvspan(phase["begin_s"], phase["end_s"], color=SHADE, linewidth=0)
    for swap in facts["swaps"]:
        axes.axvspan(swap["began_s"], min(swap["ended_s"], facts["seconds"]), color=SWAP, linewidth=0)
        axes.text(
            swap["began_s"], 1.0, swap["what"], transform=axes.get_xaxis_transform(), va="bottom", fontsize=8
        )
