"""Exposition: numbers as Prometheus reads them."""

from collections.abc import Mapping, Sequence

Samples = Sequence[tuple[Mapping[str, str], float]]


def exposed(name: str, description: str, samples: Samples) -> str:
    """A family of counters, if its name ends so, or of gauges."""
    kind = "counter" if name.endswith("_total") else "gauge"
    return _family(name, description, kind, [(name, samples)])


def exposed_histogram(name: str, description: str, buckets: Samples, sums: Samples, counts: Samples) -> str:
    parts = [(f"{name}_bucket", buckets), (f"{name}_sum", sums), (f"{name}_count", counts)]
    return _family(name, description, "histogram", parts)


def _family(name: str, description: str, kind: str, parts: Sequence[tuple[str, Samples]]) -> str:
    lines = [f"# HELP {name} {description}", f"# TYPE {name} {kind}"]
    for part, samples in parts:
        for labels, value in samples:
            said = ",".join(f'{label}="{text}"' for label, text in labels.items())
            lines.append(f"{part}{{{said}}} {value:.17g}" if said else f"{part} {value:.17g}")
    return "\n".join([*lines, ""])
