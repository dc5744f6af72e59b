"""LogLines: what `footfall serve` says, for people or as JSON, a line each."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]
SPEAKERS = ("supervisor", "door")
"""Whose lines begin with their name."""


def as_json(line: str) -> str:
    """With the time and who says it."""
    name, _, rest = line.partition(": ")
    speaker, message = (name, rest) if name in SPEAKERS else ("serve", line)
    return json.dumps({"time": datetime.now(UTC).isoformat(), "from": speaker, "message": message})


def spoken(say: Callable[[str], None], log_format: LogFormat) -> Callable[[str], None]:
    """Says a line in the format."""
    return say if log_format == "text" else lambda line: say(as_json(line))
