"""What every verb prints: steps for people on stderr, the result on stdout, as text or as one JSON object."""

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from footfall.quiet import is_quiet

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]


def say(step: str) -> None:
    """One line about what is being done, on stderr so that stdout holds only the result."""
    if not is_quiet():
        print(step, file=sys.stderr, flush=True)


def show(result: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Print the verb's result: `result` as JSON, or `text` for people."""
    print(json.dumps(result) if as_json else text, flush=True)
