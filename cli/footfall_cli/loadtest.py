"""`footfall loadtest`: real histories at a served model, measured and judged."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from footfall_cli.options import Flags
from footfall_cli.output import JsonOption, say, show
from footfall_loadtest.gate import Gate
from footfall_loadtest.options import LoadTestOptions


def loadtest(
    *,
    scenario: Annotated[
        str,
        typer.Option(
            help="steady, ramp, burst, soak, mixed, returning, swap, or a file for locust that has a Source."
        ),
    ] = "steady",
    options: Annotated[Flags, LoadTestOptions],
    processes: Annotated[int, typer.Option(help="That generate load.")] = 1,
    gate: Annotated[Flags, Gate],
    as_json: JsonOption = False,
) -> None:
    """Load a server with real histories; exit with 1 where it is slower or fails more than allowed.

    Requests arrive at random moments, whatever becomes of the ones before; latencies count from the intended start.

    Example: footfall loadtest --repository model_repository --dataset dataset --scenario burst --rate 20 --p99-ms 50
    """
    from footfall_loadtest.report import PAGE
    from footfall_loadtest.run import run_load_test

    limits, wanted = Gate(**gate), LoadTestOptions(**options)
    if wanted.repository is not None:
        wanted = _found(wanted, wanted.repository)
    say(f"{scenario}: {wanted.rate:g} requests a second, at random moments")
    report = run_load_test(scenario, wanted, processes)
    show(report, _text(report, wanted.out / PAGE), as_json)
    limits.check(report)


def _found(options: LoadTestOptions, repository: Path) -> LoadTestOptions:
    """With the addresses that the repository's server listens on."""
    from footfall.errors import NotReadyError
    from footfall_serving.state import read_state

    state = read_state(repository)
    if state is None:
        raise NotReadyError(
            f"no server runs on {repository}; start one: footfall serve --repository {repository}"
        )
    return replace(options, grpc_url=state.grpc_url, http_url=state.http_url, metrics_url=state.metrics_url)


def _text(report: dict[str, Any], page: Path) -> str:
    from footfall_loadtest.report import rows, sentences

    lines = [
        f"{'':10}{'requests':>10}{'failures':>10}{'answered/s':>12}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
    ]
    for name, one in rows(report):
        counts = f"{one['requests']:10,}{one['failures']:10,}{one['requests_per_second']:12,.1f}"
        lines.append(f"{name:10}{counts}{one['p50_ms']:9.1f}{one['p95_ms']:9.1f}{one['p99_ms']:9.1f}")
    return "\n".join([*lines, *sentences(report), f"report: {page}"])
