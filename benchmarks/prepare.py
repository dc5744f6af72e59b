"""How fast `footfall prepare` is, and what memory it takes, as the log grows.

python benchmarks/prepare.py [--millions 1,10,50] [--rounds 3]

Simulates logs of each size (timed too), then runs the command as a user would, in a process of its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _facts import busy_cores, commit, machine, summary

FOOTFALL = str(Path(sys.executable).with_name("footfall"))
MILLION = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--millions", default="1,10,50", help="sizes of the logs")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of the sizes up to 10 million; larger ones run once"
    )
    options = parser.parse_args()
    rows = [measure(int(size), options.rounds) for size in options.millions.split(",")]
    for row in rows:
        print(
            f"{row['events'] // MILLION:4} M events: {row['events_per_second']['median']:>10,.0f} events/s,"
            f" {row['seconds']['median']:6.1f} s, peak {row['peak_gib']:.2f} GiB;"
            f" simulated at {row['simulated_events_per_second']:,.0f} events/s"
        )
    speeds = [row["events_per_second"]["median"] for row in rows]
    result = {
        "what": "footfall prepare, end to end, from simulated Parquet",
        "machine": machine(),
        "commit": commit(),
        "busy_cores_before": busy_cores(),
        "sizes": rows,
        "speed_of_largest_to_smallest": speeds[-1] / speeds[0],
    }
    print(json.dumps(result))


def measure(millions: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        shop, out = Path(scratch) / "shop", Path(scratch) / "dataset"
        events = millions * MILLION
        simulated = json.loads(run("simulate", str(shop), "--events", str(events), "--json")[0])
        seconds, peaks = [], []
        for _ in range(rounds if millions <= 10 else 1):
            shutil.rmtree(out, ignore_errors=True)
            arguments = [str(shop / "events"), "--items", str(shop / "items.parquet"), "--out", str(out)]
            _, elapsed, peak = run("prepare", *arguments, "--json")
            seconds.append(elapsed)
            peaks.append(peak)
    return {
        "events": events,
        "seconds": summary(seconds),
        "events_per_second": summary([events / one for one in seconds]),
        "peak_gib": max(peaks),
        "simulated_events_per_second": simulated["events_per_second"],
    }


def run(*arguments: str) -> tuple[str, float, float]:
    """Output, wall seconds and peak memory in GiB of one footfall command."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [FOOTFALL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"footfall {' '.join(arguments)} ended with {process.returncode}")
    return output, elapsed, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
