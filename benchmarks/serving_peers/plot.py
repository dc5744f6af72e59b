"""Plot: p99 against the rate of arrivals, one line a service."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot


def plot(opened: list[dict[str, Any]], limit_ms: float, path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    last = max(row["round"] for row in opened)
    for name in dict.fromkeys(row["peer"] for row in opened):
        rows = [row for row in opened if row["peer"] == name and row["round"] == last]
        axes.plot([row["rate"] for row in rows], [row["p99_ms"] for row in rows], marker="o", label=name)
    axes.axhline(limit_ms, color="grey", linestyle=":", label=f"{limit_ms:.0f} ms")
    axes.set(
        xlabel="arrivals a second (Poisson)",
        ylabel="p99 from the intended start, ms",
        yscale="log",
        title="Zipf mix of history lengths, 2 cores for server and client",
    )
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(path)
