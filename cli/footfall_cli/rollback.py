"""`footfall rollback`: an earlier version takes the traffic again."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.output import JsonOption, say, show
from footfall_cli.publish import describe


def rollback(
    repository: Annotated[Path, typer.Option(help="The model repository.")],
    to: Annotated[int | None, typer.Option(help="A version's number; left out: the one live before.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Go back to the version that was live before, or to any other; no request fails.

    Example: footfall rollback --repository model_repository
    """
    from footfall_serving.publish import rollback as roll_back

    done = roll_back(repository, to, say)
    show(asdict(done), describe(done.live, done.serving), as_json)
