"""`footfall demo`: the whole way from a log to served recommendations, by the commands a user would type."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from footfall.errors import FootfallError, InputError
from footfall.quiet import QUIET
from footfall_cli.output import JsonOption, say, show

SIMULATED_EVENTS = "200000"
# Past the last-item baseline on the simulated shop (NDCG@10 .146 to .137), in half a minute of one core.
TRAINING = (
    "--width",
    "64",
    "--dropout",
    "0.2",
    "--epochs",
    "5",
    "--batch-size",
    "64",
    "--warmup-steps",
    "100",
)

SUMMARIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "simulate": lambda made: f"{made['events']:,} events at {made['events_per_second']:,.0f}/s",
    "prepare": lambda made: (
        f"preset {made['preset']['name']} ({made['preset']['found_by']}): {made['events']:,} events of"
        f" {made['users']:,} users and {made['items']:,} items kept of {made['rows_read']:,} rows"
    ),
    "train": lambda made: (
        f"validation NDCG@10 {made['validation']['ndcg@10']:.4f} after {made['epochs']} epochs,"
        f" {made['events_per_second']:,.0f} events/s"
    ),
    "evaluate": lambda made: (
        "test NDCG@10 of the whole catalogue: "
        + ", ".join(f"{name} {metrics['ndcg@10']:.4f}" for name, metrics in made["ranking"].items())
    ),
    "export": lambda made: (
        f"version {made['version']}, largest score difference to torch"
        f" {made['parity']['differences']['item_score']:.1e}, top-20 agreement"
        f" {made['parity']['top20_agreement']:.1%}"
    ),
    "publish": lambda made: f"version {made['live']} is live",
}


@dataclass(frozen=True)
class Step:
    """One verb of the demo; skipped where what it makes is there already."""

    arguments: tuple[str, ...]
    makes: Path


def demo(
    log: Annotated[Path | None, typer.Option(help="Your own log instead of a simulated one.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="The log's preset, where its columns do not tell.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its files.")] = Path(".demo"),
    keep_serving: Annotated[bool, typer.Option("--keep-serving", help="Serve on until ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """From a log to served recommendations, each step by its command and its result.

    Example: footfall demo --log events.parquet --keep-serving
    """
    from footfall_cli.shoppers import ask, describe
    from footfall_serving.server import running_server

    place = folder / _name(log, preset)
    for step in _steps(log, preset, place):
        _run(step)
    repository = place / "model_repository"
    say(f"serve      footfall serve --repository {repository}")
    began = time.perf_counter()
    with running_server(repository, say=say) as server:
        say(f"           ready on grpc {server.grpc_url} ({time.perf_counter() - began:.1f} s)")
        result = ask(server.grpc_url, place / "dataset")
        show(result, describe(result), as_json)
        if keep_serving:
            say(f"serving on grpc {server.grpc_url}, http {server.http_url}; ctrl-C ends it")
            _wait_for_interrupt()


def _name(log: Path | None, preset: str | None) -> str:
    """A folder name that changes with the log, so that what was made of the same log is used again."""
    if log is None:
        return "simulated"
    if not log.exists():
        raise InputError(f"{log} does not exist; name a log file or a folder of them")
    facts = log.stat()
    identity = f"{log.resolve()} {facts.st_size} {facts.st_mtime_ns} {preset}"
    return f"{log.name.split('.')[0]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _steps(log: Path | None, preset: str | None, place: Path) -> list[Step]:
    shop, dataset, checkpoint = place / "shop", place / "dataset", place / "checkpoint"
    repository = place / "model_repository"
    version = repository / "ranker" / "1"
    first, source = [], [str(log)]
    if log is None:
        first = [Step(("simulate", str(shop), "--events", SIMULATED_EVENTS), makes=shop)]
        source = [str(shop / "events"), "--items", str(shop / "items.parquet")]
    named = ["--preset", preset] if preset else []
    resume = ["--resume"] if checkpoint.with_name("checkpoint.training").exists() else []
    engine = ("--engine", "onnxruntime")
    return [
        *first,
        Step(("prepare", *source, "--out", str(dataset), *named), makes=dataset),
        Step(("train", str(dataset), "--out", str(checkpoint), *TRAINING, *resume), makes=checkpoint),
        Step(("evaluate", str(checkpoint), str(dataset)), makes=place / "evaluation.json"),
        Step(("export", str(checkpoint), "--repository", str(repository), *engine), makes=version),
        Step(("publish", str(version)), makes=repository / "footfall" / "config.pbtxt"),
    ]


def _run(step: Step) -> None:
    """Run one verb, or say that what it makes is there."""
    verb = step.arguments[0]
    if step.makes.exists():
        say(f"{verb:<10} {step.makes} is there")
        return
    command = f"footfall {' '.join(step.arguments)}"
    say(f"{verb:<10} {command}")
    began = time.perf_counter()
    program = Path(sys.executable).with_name("footfall")
    run = subprocess.run(
        [program, *step.arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=None if sys.stderr.isatty() else subprocess.PIPE,  # the step's bar is for a terminal
        env={**os.environ, QUIET: "1"},
        text=True,
        check=False,
    )
    if run.returncode:
        for line in filter(str.strip, (run.stderr or "").splitlines()):
            print(line, file=sys.stderr, flush=True)
        raise FootfallError(f"`{command}` failed; its message is above")
    made = json.loads(run.stdout)
    if step.makes.suffix == ".json":
        partial = step.makes.with_name(f".partial-{step.makes.name}")
        partial.write_text(run.stdout)
        partial.replace(step.makes)
    say(f"           {SUMMARIES[verb](made)} ({time.perf_counter() - began:.1f} s)")


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say("stopped")
