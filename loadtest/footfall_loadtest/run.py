"""Run: locust headless in a process of its own, so that its gevent patching touches nobody else.

report.json's percentiles are exact; report.html is locust's and rounds its own.

python -m footfall_loadtest.run OUT PROTOCOLS USERS SECONDS writes OUT/report.html and OUT/report.json.
"""

import json
import os
import subprocess
import sys
from array import array
from collections import Counter, defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from footfall.errors import FootfallError, NotReadyError
from footfall_loadtest.gate import Measured
from footfall_loadtest.options import LoadTestOptions
from footfall_loadtest.workload import Workload

REPORT = "report.html"
RESULT = "report.json"


def run_load_test(
    urls: dict[str, str], dataset: Path, out: Path, options: LoadTestOptions, tls_root: Path | None = None
) -> dict[str, Measured]:
    """Load the server at `urls` (protocol -> host:port), write the reports to `out`; what was measured.

    `tls_root`: the PEM root of the server's certificate; every protocol then speaks TLS.
    """
    if find_spec("locust") is None:
        raise NotReadyError("locust is not installed; pip install 'footfall[loadtest]'")
    Workload(dataset, options.max_events)
    out.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "FOOTFALL_DATASET": str(dataset),
        "FOOTFALL_TOP_K": "" if options.top_k is None else str(options.top_k),
        "FOOTFALL_MAX_EVENTS": str(options.max_events),
        **{f"FOOTFALL_{protocol.upper()}_URL": url for protocol, url in urls.items()},
        "FOOTFALL_TLS_ROOT": str(tls_root or ""),
    }
    arguments = [str(out), ",".join(options.protocols), str(options.users), str(options.seconds)]
    command = [sys.executable, "-m", "footfall_loadtest.run", *arguments]
    run = subprocess.run(command, env=environment, check=False)
    if run.returncode:
        raise FootfallError(f"the load test ended with code {run.returncode}; its own message is above")
    return {name: Measured(**facts) for name, facts in json.loads((out / RESULT).read_text()).items()}


class Recorder:
    """Listens to locust for the time of every request, since locust itself keeps rounded ones."""

    def __init__(self) -> None:
        self._times_ms: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self._failures: Counter[str] = Counter()

    def __call__(self, request_type: str, response_time: float, exception: Any, **_: Any) -> None:
        self._times_ms[request_type].append(response_time)
        self._failures[request_type] += exception is not None

    def measured(self, protocol: str, seconds: float) -> Measured:
        return Measured.of(self._times_ms[protocol], self._failures[protocol], seconds)


def main(out: Path, protocols: list[str], users: int, seconds: float) -> None:
    import gevent
    from locust.env import Environment
    from locust.html import get_html_report
    from locust.stats import stats_history

    from footfall_loadtest.user import GrpcUser, HttpUser  # patches for gevent, so first

    classes: list[Any] = [user for user in (GrpcUser, HttpUser) if user.protocol in protocols]
    environment = Environment(user_classes=classes)
    recorder = Recorder()
    environment.events.request.add_listener(recorder)  # type: ignore[no-untyped-call]
    runner = environment.create_local_runner()
    gevent.spawn(stats_history, runner)
    runner.start(users * len(classes), spawn_rate=users * len(classes))
    gevent.sleep(seconds)
    runner.quit()
    (out / REPORT).write_text(get_html_report(environment))  # type: ignore[no-untyped-call]
    measured = {protocol: vars(recorder.measured(protocol, seconds)) for protocol in protocols}
    (out / RESULT).write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]), float(sys.argv[4]))
