"""`footfall publish`: a version takes the traffic."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.output import JsonOption, say, show


def publish(
    version_dir: Annotated[Path, typer.Argument(help="A version's folder, in the repository or elsewhere.")],
    repository: Annotated[
        Path | None, typer.Option(help="The model repository; left out: the one the version lies in.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a version, load and try it beside the live one, then let it answer; no request fails.

    Example: footfall publish model_repository/ranker/2
    """
    from footfall_serving.publish import publish as publish_version

    done = publish_version(version_dir, repository, say)
    show(asdict(done), describe(done.live, done.serving), as_json)


def describe(live: int, serving: bool) -> str:
    if serving:
        return f"version {live} is live"
    return f"version {live} is live on disk; no server runs on this repository, the next `footfall serve` serves it"
