"""What it costs to be seen: processor time a request of server, stubs and door, without and with each thing to see.

python benchmarks/seen.py [--seconds 6] [--rounds 5]

Servers of one repository (that of benchmarks/overload.py) run side by side, asked in turn, 8 requests of 50
events in flight, over gRPC and over HTTP: as they are by default, with steps that count nothing, with an access log
of all requests, and with traces of one in a hundred and of all, which a collector in a process of its own takes. What
a server costs is compared with the one by default in the same round.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from _facts import busy_cores, commit, cpu_s, machine, summary
from door import door_of, one
from overload import make_repository
from serve import shapes

from footfall.contract import RECOMMENDER
from footfall_data.dataset import Dataset
from footfall_serving.door.seen import Seen
from footfall_serving.options import ServeOptions
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.server import ANY_PORTS, running_server
from footfall_serving.state import ServerState

CLIENTS, EVENTS = 8, 50
UNCOUNTED = """
from footfall_serving.steps import counters, mix
counters.Counter.add = counters.Counter.add_all = counters.Histogram.add = lambda *given: None
mix.Mix.add = lambda *given: None
"""
COLLECTOR = """
import http.server
class Taker(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *parts): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taker)
print(server.server_port, flush=True)
server.serve_forever()
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, collector() as url:
        print(json.dumps(measure(Path(scratch), url, options.seconds, options.rounds)))


@contextlib.contextmanager
def collector() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/traces"
    finally:
        process.kill()
        process.wait()


def measure(scratch: Path, url: str, seconds: float, rounds: int) -> dict[str, Any]:
    dataset, repository = make_repository(scratch)
    quiet = busy_cores()
    wanted: dict[str, ServeOptions] = {
        "default": ANY_PORTS,
        "steps that count nothing": ANY_PORTS,
        "access log of all": replace(ANY_PORTS, access_log=scratch / "access.log"),
        "traces of one in a hundred": replace(ANY_PORTS, otlp_url=url, trace_share=0.01),
        "traces of all": replace(ANY_PORTS, otlp_url=url, trace_share=1.0),
    }
    rows = []
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(running_server(copy(repository, scratch / f"{place}"), options))
            for place, (name, options) in enumerate(wanted.items())
        }
        count_nothing(servers["steps that count nothing"], scratch / "1")
        for protocol in ("grpc", "http"):
            costs: dict[str, list[float]] = {name: [] for name in servers}
            for _ in range(rounds):
                for name, server in servers.items():
                    costs[name].append(cost_us(server, protocol, dataset, seconds))
            rows += [row(protocol, name, costs) for name in servers]
            for each in rows[-len(servers) :]:
                print(f"{protocol} {each['what']}: {each['more_us']['median']:+.0f} us", file=sys.stderr)
    return {
        "what": "processor time of server, stubs and door a request, us, and how much more than by default",
        "shapes": shapes(repository) | {"events": EVENTS, "clients": CLIENTS},
        "machine": machine(),
        "commit": commit(),
        "busy_cores_before": quiet,
        "door_counts_us": door_counts_us(),
        "rows": rows,
    }


def copy(repository: Path, to: Path) -> Path:
    return Path(shutil.copytree(repository, to))


def count_nothing(server: ServerState, repository: Path) -> None:
    """Load the step anew, by an adaptor that takes the counting out."""
    adaptor = repository / RECOMMENDER / "1" / "model.py"
    adaptor.write_text(UNCOUNTED + adaptor.read_text())
    with RepositoryApi(server) as api:
        api.load(RECOMMENDER)


def cost_us(server: ServerState, protocol: str, dataset: Dataset, seconds: float) -> float:
    """Of one request."""
    url = {"grpc": server.grpc_url, "http": server.http_url}[protocol]
    processes = (server.pid, door_of(server).pid)
    before = sum(map(cpu_s, processes))
    asked = one(protocol, url, dataset, CLIENTS, seconds)["asked"]
    return (sum(map(cpu_s, processes)) - before) / float(asked) * 1e6


def row(protocol: str, name: str, costs: dict[str, list[float]]) -> dict[str, Any]:
    pairs = zip(costs[name], costs["default"], strict=True)
    more = [cost - default for cost, default in pairs]
    return {"protocol": protocol, "what": name, "us": summary(costs[name]), "more_us": summary(more)}


def door_counts_us(number: int = 100_000) -> float:
    """What the door's own counting takes of an inference."""
    seen = Seen(time.monotonic)
    began = time.process_time()
    for _ in range(number):
        asked = seen.take("http", "a", "footfall")
        seen.send(asked)
        seen.done(asked, "200")
    return (time.process_time() - began) / number * 1e6


if __name__ == "__main__":
    main()
