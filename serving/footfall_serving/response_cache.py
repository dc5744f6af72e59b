"""Response cache: what `serve --response-cache-mib` allows the steps, told to their processes by a variable."""

import os

from footfall.errors import InputError
from footfall_engines.version import Version

VARIABLE = "FOOTFALL_RESPONSE_CACHE_MIB"


def variables(mib: int) -> dict[str, str]:
    """For the environment of a server, which its stubs inherit."""
    return {VARIABLE: str(mib)}


def share_of(instances: int) -> int:
    """Bytes for one of so many processes of a version."""
    return (int(os.environ.get(VARIABLE, "0")) << 20) // instances


def check_keeps(version: Version) -> None:
    """Raises InputError where none of its steps could keep an answer."""
    if version.backend == "tensorrt":
        raise InputError(
            f"the server runs the plan of version {version.number} itself, without a step that could keep answers;"
            " serve it without --response-cache-mib"
        )
