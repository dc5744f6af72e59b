"""Quiet: where a command runs as a step of another, it leaves the lines about its own steps out."""

import os

QUIET = "FOOTFALL_QUIET"
"""Environment variable; set to anything: nothing on stderr but errors and the progress bar."""


def is_quiet() -> bool:
    return bool(os.environ.get(QUIET))
