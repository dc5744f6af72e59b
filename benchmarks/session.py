"""The bar of a published session recommender: 1,000 requests/s of 50 events at p90 <= 7 ms, 100,000 items, 2 cores.

    apt-get install wrk
    .venv/bin/python benchmarks/session.py [--seconds 10] [--rounds 3]

The log, checkpoint and version of benchmarks/large_catalogue.py, with 100,000 items and width 64; the server with
its defaults; HTTP bodies of whole histories of 50 events, the 20 best of all items. A closed loop by wrk, one thread,
4 to 16 clients, and an open loop with Poisson arrivals at the bar's rate and above, latency from the intended start.
The published client was elsewhere (Serenade, bol.com, on 2 virtual CPUs); here it is on the server's cores, and how
much of them it takes is told. The last line of stdout is one JSON object.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _facts import busy_cores, commit, machine

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "serving_peers")]

from large_catalogue import EVENTS, make_version  # noqa: E402
from run import at_rate, closed_loop  # noqa: E402
from serve import shapes  # noqa: E402
from shop import NUM_BODIES, write_bodies  # noqa: E402

from footfall_serving.server import running_server  # noqa: E402

CLIENTS = (4, 6, 8, 16)
RATES = (1_000, 1_250, 1_500, 2_000)
BAR_RATE, BAR_P90_MS = 1_000, 7.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(Path(scratch), options)
    for row in result["rows"]:
        print(
            f"{row['loop']:6} {row['asked']:5}: {row['requests_per_second']:6,.0f} requests/s, p50"
            f" {row['p50_ms']:.1f} ms, p90 {row['p90_ms']:.1f}, p99 {row['p99_ms']:.1f}, {row['failures']} failed;"
            f" server {row['server_ms']:.2f} ms of processor a request, client {row['client_cores']:.2f} cores"
            f"{', within the bar' if row['within_bar'] else ''}"
        )
    print(json.dumps(result))


def measure(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    dataset = make_version(place, options.items, options.width)
    bodies = place / "bodies"
    write_bodies(bodies, dataset, np.full(NUM_BODIES, EVENTS))
    busy, rows = busy_cores(), []
    with running_server(place / "repository") as server:
        where = server.http_url, bodies, options.seconds
        for _ in range(options.rounds):
            rows += [measured("closed", clients, closed_loop, *where) for clients in CLIENTS]
            rows += [measured("open", rate, open_loop, *where) for rate in RATES]
    return {
        "what": "HTTP JSON, histories of 50, the 20 best of all items; asked: clients, or arrivals a second",
        "bar": {"requests_per_second": BAR_RATE, "p90_ms": BAR_P90_MS},
        "shapes": shapes(place / "repository"),
        "machine": machine(),
        "commit": commit(),
        "busy_cores_before": busy,
        "rows": rows,
    }


def open_loop(url: str, bodies: Path, rate: int, seconds: float) -> dict[str, Any]:
    row = at_rate(url, bodies, rate, seconds)
    return row | {"requests_per_second": row["requests"] / seconds}


def measured(
    loop: str,
    asked: int,
    ask: Callable[[str, Path, int, float], dict[str, Any]],
    url: str,
    bodies: Path,
    seconds: float,
) -> dict[str, Any]:
    """What it gave, the cores that its process took, and the processor time of server and door for a request."""
    began, before, served = time.perf_counter(), child_seconds(), server_seconds()
    row = ask(url, bodies, asked, seconds)
    cores = (child_seconds() - before) / (time.perf_counter() - began)
    # The closed loop's second of warm-up, whose requests do not count, is in the server's time.
    warm = seconds / (seconds + 1) if loop == "closed" else 1.0
    server_ms = (server_seconds() - served) * warm * 1000 / row["requests"]
    enough = row["requests_per_second"] >= BAR_RATE and not row["failures"]
    within = enough and row["p90_ms"] <= BAR_P90_MS
    return {"loop": loop, "asked": asked, **row, "client_cores": cores, "server_ms": server_ms} | {
        "within_bar": within
    }


def server_seconds() -> float:
    """Processor time of the server, its stubs and the door so far."""
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return sum(time.user + time.system for time in times)


def child_seconds() -> float:
    """Processor time of the clients that have ended; the server has not."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
