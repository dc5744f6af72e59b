"""`footfall serve`: the real server on a model repository, until ctrl-C."""

import contextlib
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.options import Flags
from footfall_cli.output import JsonOption, say, show
from footfall_serving.log_lines import LogFormat, spoken
from footfall_serving.options import ServeOptions


def serve(
    repository: Annotated[Path, typer.Option(help="A model repository with a published version.")],
    *,
    options: Annotated[Flags, ServeOptions],
    repository_key_file: Annotated[
        Path | None, typer.Option(help="Holds the key of the repository API; else a random one is made.")
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="Of the lines that it says meanwhile, on stderr.")
    ] = "text",
    as_json: JsonOption = False,
) -> None:
    """Serve the live version of a model repository, supervised, until ctrl-C or a SIGTERM, after which it drains.

    Example: footfall serve --repository model_repository --http-port 8000 --grpc-port 8001
    """
    from footfall.errors import InputError
    from footfall_serving.door.drain import drain
    from footfall_serving.launch import LOG_FILE, Ended
    from footfall_serving.server import running_server

    key = None
    if repository_key_file is not None:
        if not repository_key_file.is_file():
            raise InputError(f"the key file {repository_key_file} does not exist")
        key = repository_key_file.read_text().strip()
        if not key:
            raise InputError(f"the key file {repository_key_file} is empty")
    wanted = ServeOptions(**options, repository_key=key)
    # Not a threading.Event: a handler that interrupts its wait would wait for its lock.
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _: signals.append(caught))

    def ended() -> bool:
        return bool(signals)

    tell = spoken(say, log_format)
    tell(f"starting the server on {repository}; its log is {repository / LOG_FILE}")
    with contextlib.suppress(Ended), running_server(repository, wanted, tell, ended) as state:
        facts = {
            "grpc": state.grpc_url,
            "http": state.http_url,
            "metrics": state.metrics_url,
            "pid": state.pid,
        }
        text = f"ready: grpc {state.grpc_url}, http {state.http_url}, metrics {state.metrics_url}; ctrl-C ends it"
        show(facts, text, as_json)
        while not ended():
            time.sleep(0.1)
        if signals == [signal.SIGTERM] and wanted.drain_s:
            tell(f"draining: not ready any more, for who still comes {wanted.drain_s:g} s at most")
            nobody = drain(state.grpc_file, wanted.drain_s, lambda: len(signals) > 1)
            tell("drained" if nobody else "not drained: somebody still came or was not answered")
    tell("stopped")
