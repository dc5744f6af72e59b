"""`footfall tune`: the settings of the server that keep an objective on this machine."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from footfall_cli.options import Flags
from footfall_cli.output import JsonOption, say, show
from footfall_loadtest.tune_options import TuneOptions

LINKED_BYTES = 1 << 20
"""Larger files of the copy are links: engines, which nobody changes."""


def tune(
    repository: Annotated[Path, typer.Option(help="A model repository with a published version.")],
    *,
    options: Annotated[Flags, TuneOptions],
    as_json: JsonOption = False,
) -> None:
    """Measure instances, threads, queue delay and batch size at a rate, and write the best to the repository.

    On a copy of the repository and a server of its own: nothing that is live is touched. The next start of a server
    and the next publish take what was found, from tuning.json. Exits with 1 and writes
    nothing where no setting keeps the p99.

    Example: footfall tune --repository model_repository --dataset dataset --rate 200 --p99-ms 50
    """
    from footfall.errors import InputError
    from footfall_engines.repository import Repository
    from footfall_engines.tuning import TUNING_FILE, Tuning
    from footfall_loadtest.tune import Search
    from footfall_loadtest.workload import Workload
    from footfall_serving.launch import live_number

    wanted = TuneOptions(**options)
    Workload(wanted.dataset)
    version = Repository(repository).version(live_number(repository))
    load_before = os.getloadavg()[0]
    with _copy(repository) as copy:
        Repository(copy).write_configs([version], version)
        search = Search(_choices(version.engine, Repository(copy).most_instances()), wanted.rounds)
        best = search.best(_measure(copy, wanted), say)
    evidence = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "name": platform.node(),
            "cores": len(os.sched_getaffinity(0)),
            "load_before": load_before,
        },
        "version": version.number,
        "objective": {"rate": wanted.rate, "p99_ms": wanted.p99_ms},
        "measured": [trial.as_json() for trial in search.trials],
    }
    if best.median_ms > wanted.p99_ms:
        raise InputError(
            f"no setting keeps a p99 of {wanted.p99_ms:g} ms at {wanted.rate:g} requests a second here; the"
            f" best, {best.settings}, has {best.median_ms:.1f} ms: lower the rate, or serve on more cores"
        )
    Repository(repository).write_tuning(Tuning(**best.settings), evidence)
    text = (
        f"p99 {best.median_ms:.1f} ms at {wanted.rate:g} requests a second with {_listed(best.settings)}; written to"
        f" {repository / TUNING_FILE}, for the next `footfall serve` or publish"
    )
    show({"p99_ms": best.median_ms, **best.settings, "evidence": evidence}, text, as_json)


def _choices(engine: str, instances: int) -> dict[str, list[Any]]:
    """Of each setting the values to try, what there is without tuning first; `instances`: what there are."""
    from footfall.contract import MAX_BATCH
    from footfall_engines.tuning import Tuning

    choices = {name: [value] for name, value in asdict(Tuning()).items()}
    choices["instances"] += reversed(_powers(instances - 1))
    if engine == "onnxruntime":
        choices["threads"] = _powers(len(os.sched_getaffinity(0)))
    choices["queue_delay_us"] = [0, 200, 1000]
    choices["max_batch"] = [MAX_BATCH, MAX_BATCH // 4]
    return choices


def _powers(most: int) -> list[int]:
    return [2**power for power in range(most.bit_length())]


@contextmanager
def _copy(repository: Path) -> Iterator[Path]:
    """Of what a server needs, on the same disk; without locks, logs and state, which begin with a dot."""
    from footfall_engines.tuning import TUNING_FILE

    with tempfile.TemporaryDirectory(prefix=".tuning-", dir=repository.resolve().parent) as folder:
        copy = Path(folder) / "model_repository"
        shutil.copytree(
            repository, copy, ignore=shutil.ignore_patterns(".*", TUNING_FILE), copy_function=_linked
        )
        yield copy


def _linked(source: str, target: str) -> None:
    if Path(source).stat().st_size > LINKED_BYTES:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _measure(repository: Path, options: TuneOptions) -> Callable[[dict[str, Any]], float]:
    from footfall_engines.repository import Repository
    from footfall_engines.tuning import Tuning
    from footfall_loadtest.options import LoadTestOptions
    from footfall_loadtest.run import run_load_test
    from footfall_serving.server import running_server

    def measure(settings: dict[str, Any]) -> float:
        Repository(repository).write_tuning(Tuning(**settings), {})
        with running_server(repository) as server:
            load = LoadTestOptions(
                options.dataset,
                repository.parent / "report",
                options.rate,
                options.seconds,
                grpc_url=server.grpc_url,
                metrics_url="",
            )
            report = run_load_test("steady", load)
        total = report["total"]
        say(f"{_listed(settings)}: p99 {total['p99_ms']:.1f} ms, {total['failures']} failures")
        # A refusal is quick: with one in a hundred the p99 is that of a request that was never answered.
        failed = total["failures"] * 100 >= total["requests"]
        return 1000 * load.timeout_s if failed else float(total["p99_ms"])

    return measure


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
