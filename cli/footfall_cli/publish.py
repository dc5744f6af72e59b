"""`footfall publish`: a version takes the traffic."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.options import Flags
from footfall_cli.output import JsonOption, say, show
from footfall_serving.rollout_options import RolloutOptions


def publish(
    version_dir: Annotated[Path, typer.Argument(help="A version's folder, in the repository or elsewhere.")],
    repository: Annotated[
        Path | None, typer.Option(help="The model repository; left out: the one the version lies in.")
    ] = None,
    *,
    rollout: Annotated[Flags, RolloutOptions],
    as_json: JsonOption = False,
) -> None:
    """Check a version, load and try it beside the live one, then let it answer; no request fails.

    Example: footfall publish model_repository/ranker/2 --shadow 0.2 --canary 0.05
    """
    from footfall_serving.publish import publish as publish_version

    done = publish_version(version_dir, repository, say, RolloutOptions(**rollout))
    show(asdict(done), describe(done.live, done.serving), as_json)


def describe(live: int, serving: bool) -> str:
    if serving:
        return f"version {live} is live"
    return f"version {live} is live on disk; no server runs on this repository, the next `footfall serve` serves it"
