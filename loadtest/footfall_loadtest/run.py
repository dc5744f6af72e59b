"""Run: locust on a scenario's file, in processes of its own, so that its gevent patching touches nobody else."""

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

from footfall.errors import FootfallError, NotReadyError
from footfall_loadtest.arguments import as_arguments
from footfall_loadtest.options import LoadTestOptions
from footfall_loadtest.report import RESULT
from footfall_loadtest.scenario import scenario_file
from footfall_loadtest.workload import Workload


def run_load_test(scenario: str, options: LoadTestOptions, processes: int = 1) -> dict[str, Any]:
    """Load the server, write the reports to `options.out`; what report.json says.

    `scenario`: a name, or the path of a file for locust; `processes`: that generate load.
    """
    for library in ("locust", "matplotlib"):
        if find_spec(library) is None:
            raise NotReadyError(f"{library} is not installed; pip install 'footfall[loadtest]'")
    Workload(options.dataset, options.max_events)
    (options.out / RESULT).unlink(missing_ok=True)
    run = subprocess.run(
        [
            *locust_command(scenario, options, processes),
            "--headless",
            "--skip-log-setup",
            "--exit-code-on-error=0",
        ],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if run.returncode:
        raise FootfallError(f"the load test ended with code {run.returncode}; its own message is above")
    result: dict[str, Any] = json.loads((options.out / RESULT).read_text())
    return result


def locust_command(scenario: str, options: LoadTestOptions, processes: int = 1) -> list[str]:
    """With locust's web page; the same without needs --headless."""
    several = [f"--processes={processes}"] if processes > 1 else []
    command = [sys.executable, "-m", "locust", "--locustfile", str(scenario_file(scenario))]
    return [*command, *several, *as_arguments(options)]
