"""Bytecode: of a version's model.py files, there before a stub imports them.

A stub writes it beside model.py, and at its next load the server would take the version for changed and load it anew,
with all that its engine knows. Nothing keeps a stub from writing it: it reads no variable of Python's environment.
"""

import importlib.util
import py_compile
from pathlib import Path

from footfall.contract import COMPOSING_MODELS
from footfall.folder import replacing
from footfall_engines.repository import Repository

HASH = slice(8, 16)
"""Of the source, in a file that is checked by it; one checked by the time would be written anew after a touch."""


def compile_adaptors(repository: Repository, number: int) -> None:
    """Write the bytecode of the version's model.py of every step, where it is not there."""
    for step in COMPOSING_MODELS:
        path = repository.folder / step / str(number) / "model.py"
        if not path.is_file():
            continue
        compiled = Path(importlib.util.cache_from_source(path, optimization=""))
        known = compiled.read_bytes()[HASH] if compiled.is_file() else b""
        if known == importlib.util.source_hash(path.read_bytes()):
            continue
        with replacing(compiled):
            py_compile.compile(
                str(path),
                cfile=str(compiled),
                optimize=0,
                quiet=2,  # the stub says what is wrong with it
                invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH,
            )
