"""Scraped: a server's metrics page, by name and labels."""

import re
import urllib.request

from footfall_serving.state import ServerState

SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? ([^ ]+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')

Metrics = dict[str, dict[frozenset[tuple[str, str]], float]]


def page(server: ServerState) -> str:
    with urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def scraped(server: ServerState) -> Metrics:
    found: Metrics = {}
    for line in page(server).splitlines():
        if not line.startswith("#"):
            sample = SAMPLE.fullmatch(line)
            assert sample is not None, line
            found.setdefault(sample[1], {})[frozenset(LABEL.findall(sample[2] or ""))] = float(sample[3])
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum over all that have the labels."""
    wanted = frozenset(labels.items())
    return sum(number for has, number in metrics.get(name, {}).items() if wanted <= has)
