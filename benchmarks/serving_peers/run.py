"""Footfall beside what a shop would write itself: the same bodies, the same client, in turn, on the same cores.

pip install -r benchmarks/serving_peers/requirements.txt; apt-get install wrk
python benchmarks/serving_peers/run.py [--seconds 4] [--rounds 2] [--place FOLDER] [--plot FILE] [--peers NAME ...]

Closed loop by wrk, one thread, 1, 8 and 32 clients: histories of 10, 50 and 200 events, and a Zipf mix of lengths.
Then open loop with the Zipf mix at rising rates, until p99 passes 50 ms. Every service first shows that it gives the
same scores. Of rounds the best counts, for uvicorn at times gives one worker most connections. The last line is one
JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from _facts import busy_cores, commit, machine  # noqa: E402
from peers import PEERS, Footfall, Peer  # noqa: E402
from serve import shapes  # noqa: E402
from shop import LENGTHS, ZIPF, bodies_file, make_place  # noqa: E402

CLIENTS = (1, 8, 32)
P99_LIMIT_MS = 50.0
FIRST_RATE, RATE_STEP = 100.0, 1.25
CHECKED_BODIES = 8
TOLERANCE = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--place", type=Path, help="keep what is served here, and use it again")
    parser.add_argument("--plot", type=Path, help="latency against throughput, as PNG or SVG")
    parser.add_argument("--peers", nargs="*", help="only those whose names contain one of these words")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = (options.place or Path(scratch) / "place").resolve()
        if not (place / bodies_file(place, ZIPF).name).exists():
            place.mkdir(parents=True, exist_ok=True)
            make_place(place)
        result = measure(place, chosen(options.peers), options.seconds, options.rounds)
    print(table(result["closed"], result["open"]))
    if options.plot is not None:
        from plot import plot  # needs matplotlib

        plot(result["open"], P99_LIMIT_MS, options.plot)
    print(json.dumps(result))


def chosen(words: list[str] | None) -> list[Peer | Footfall]:
    return [peer for peer in PEERS if not words or any(word in peer.name for word in words)]


def measure(place: Path, peers: list[Peer | Footfall], seconds: float, rounds: int) -> dict[str, Any]:
    quiet = busy_cores()
    closed: list[dict[str, Any]] = []
    opened: list[dict[str, Any]] = []
    for round_ in range(rounds):
        for peer in peers:
            with peer.serving(place) as url:
                check(url, place)
                for length in (*LENGTHS, ZIPF):
                    for clients in CLIENTS:
                        row = closed_loop(url, bodies_file(place, length), clients, seconds)
                        closed.append(
                            {"peer": peer.name, "round": round_, "events": length, "clients": clients} | row
                        )
                        tell(closed[-1])
                for row in open_loop(url, bodies_file(place, ZIPF), seconds):
                    opened.append({"peer": peer.name, "round": round_} | row)
                    tell(opened[-1])
    return {
        "what": "HTTP JSON, closed loop by wrk and open loop with Poisson arrivals, the 20 best of all items",
        "shapes": shapes(place / "model_repository"),
        "machine": machine(),
        "commit": commit(),
        "busy_cores_before": quiet,
        "closed": closed,
        "open": opened,
    }


def closed_loop(url: str, bodies: Path, clients: int, seconds: float) -> dict[str, Any]:
    """After a second of warm-up."""
    wrk = [
        "wrk",
        "-t1",
        f"-c{clients}",
        "--timeout",
        "30s",
        "-s",
        str(HERE / "closed_loop.lua"),
        f"http://{url}",
    ]
    for duration in (1, seconds):
        done = subprocess.run(
            [*wrk, f"-d{duration:g}s"],
            env=os.environ | {"BODIES": str(bodies)},
            capture_output=True,
            text=True,
            check=True,
        )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row | {"requests_per_second": row["requests"] / row["seconds"]}


def open_loop(url: str, bodies: Path, seconds: float) -> list[dict[str, Any]]:
    """At rising rates, until p99 passes the limit."""
    rows: list[dict[str, Any]] = []
    rate = FIRST_RATE
    while not rows or (rows[-1]["p99_ms"] <= P99_LIMIT_MS and not rows[-1]["failures"]):
        rows.append(at_rate(url, bodies, round(rate), seconds))
        rate *= RATE_STEP
    return rows


def at_rate(url: str, bodies: Path, rate: int, seconds: float) -> dict[str, Any]:
    words = [str(HERE / "open_loop.py"), url, str(bodies), str(rate), str(seconds)]
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def check(url: str, place: Path) -> None:
    """Raises SystemExit where a service lists other items than the first that was asked."""
    answers = []
    for length in LENGTHS:
        for body in bodies_file(place, length).read_text().splitlines()[:CHECKED_BODIES]:
            request = urllib.request.Request(
                f"http://{url}/v2/models/footfall/infer", body.encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                outputs = json.loads(answer.read())["outputs"]
            answers.append({output["name"]: output["data"] for output in outputs})
    expected = place / "answers.json"
    if not expected.exists():
        expected.write_text(json.dumps(answers))
        return
    for one, other in zip(answers, json.loads(expected.read_text()), strict=True):
        for name in ("score", "action_probability"):
            if len(one[name]) != len(other[name]) or any(
                abs(mine - theirs) > TOLERANCE for mine, theirs in zip(one[name], other[name], strict=True)
            ):
                raise SystemExit(f"{url} answers {name} {one[name]}, the first service {other[name]}")


def tell(row: dict[str, Any]) -> None:
    print(json.dumps(row), file=sys.stderr, flush=True)


def table(closed: list[dict[str, Any]], opened: list[dict[str, Any]]) -> str:
    """Markdown: requests/s (p50, p99 ms) of each peer's best round, and the highest rate within the limit."""
    names = list(dict.fromkeys(row["peer"] for row in closed))
    lines = [f"| events, clients | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for length in (*LENGTHS, ZIPF):
        for clients in CLIENTS:
            cells = [best(closed, name, length, clients) for name in names]
            lines.append(f"| {length}, {clients} | {' | '.join(map(shown, cells))} |")
    rates = [f"{highest_rate(opened, name):,.0f}" for name in names]
    lines.append(f"| {ZIPF}, open loop, p99 <= {P99_LIMIT_MS:.0f} ms | {' | '.join(rates)} |")
    return "\n".join(lines)


def best(closed: list[dict[str, Any]], name: str, length: int | str, clients: int) -> dict[str, Any]:
    rows = [row for row in closed if (row["peer"], row["events"], row["clients"]) == (name, length, clients)]
    return max(rows, key=lambda row: row["requests_per_second"])


def shown(row: dict[str, Any]) -> str:
    failed = f", {row['failures']} failed" if row["failures"] else ""
    return f"{row['requests_per_second']:,.0f} ({row['p50_ms']:.1f}, {row['p99_ms']:.1f}{failed})"


def highest_rate(opened: list[dict[str, Any]], name: str) -> float:
    rates = [
        row["rate"]
        for row in opened
        if row["peer"] == name and row["p99_ms"] <= P99_LIMIT_MS and not row["failures"]
    ]
    return max(rates, default=0.0)


if __name__ == "__main__":
    main()
