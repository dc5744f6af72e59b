"""Undo: a publish that fails leaves the disk and the server as they were."""

import contextlib
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from footfall.contract import COMPOSING_MODELS, ENSEMBLE
from footfall.errors import FootfallError
from footfall.folder import replacing
from footfall_engines.repository import PROMOTIONS, Repository, Say
from footfall_serving.repository_api import RepositoryApi

MODELS = (ENSEMBLE, *COMPOSING_MODELS)


@contextlib.contextmanager
def undone_on_failure(repository: Repository, api: RepositoryApi | None, say: Say) -> Iterator[None]:
    """Where the block fails, the disk says what it said before, and the server has loaded what it had."""
    try:
        with _kept(repository, [*map(repository.config_path, MODELS), repository.folder / PROMOTIONS]):
            yield
    except BaseException:
        # The ensemble first, so that it lets go of what the other steps then unload.
        if api is not None:
            _reload(repository, api, say)
        raise


def _reload(repository: Repository, api: RepositoryApi, say: Say) -> None:
    for load in (partial(api.load, ENSEMBLE), partial(api.load_steps, repository)):
        try:
            load()
        except FootfallError as error:
            say(f"what was loaded is not back as it was: {error}")


@contextlib.contextmanager
def _kept(repository: Repository, paths: list[Path]) -> Iterator[None]:
    """Put the files back where the block fails; on a full disk too, as it takes no room to rename a copy."""
    copies = {path: repository.aside(path, "before") for path in paths}
    try:
        for path, copy in copies.items():
            with replacing(path):
                copy.parent.mkdir(exist_ok=True)
                copy.unlink(missing_ok=True)
                if path.exists():
                    shutil.copyfile(path, copy)
        try:
            yield
        except BaseException:
            for path, copy in copies.items():
                if copy.exists():
                    copy.replace(path)
                else:
                    path.unlink(missing_ok=True)
            raise
    finally:
        for copy in copies.values():
            copy.unlink(missing_ok=True)
