"""Publish: make a version the one that answers, without a failed request; and go back.

The ensemble's configuration pins each of its steps to one version. The new version's steps are loaded beside the
old ones and answer the canary first; then one rewrite of the ensemble's configuration moves all traffic. What lies
on disk is the truth at every instant: a restart serves the version that the ensemble's configuration pins.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from footfall.contract import COMPOSING_MODELS, ENSEMBLE, POSTPROCESS, PREPROCESS
from footfall.errors import FootfallError, InputError
from footfall.folder import MANIFEST, replacing, written_aside
from footfall_engines.repository import PROMOTIONS, Repository
from footfall_engines.version import Version, check_successor
from footfall_serving.canary import replay
from footfall_serving.lock import locked
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.state import ServerState, read_state

MODELS = (ENSEMBLE, *COMPOSING_MODELS)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Published:
    """`previous` stays loaded for a rollback; `serving` tells whether a running server answers with `live`."""

    live: int
    previous: int | None
    serving: bool


def publish(folder: Path, repository: Path | None = None, say: Say = lambda line: None) -> Published:
    """Make the version in `folder` live; it is copied into `repository` as its newest where it lies elsewhere.

    `repository` None is the one the folder lies in. Raises InputError where the folder is incomplete, altered, of
    another lineage or answers its canary wrongly; the version that was live stays so.
    """
    version = Version.open(folder, verify=True)
    home = Repository.around(folder) if repository is None else Repository(repository)
    with locked(home.folder):
        own, live, numbers = home.number_of(folder), home.live_number(), home.numbers()
        neighbours = {number for number in (live, *numbers[-1:]) if number is not None and number != own}
        for number in sorted(neighbours):
            _check_lineage(home.version(number), version, own)
        if own is None:
            version = _copy(version, home, home.next_number())
        return _promote(version, home, say)


def rollback(repository: Path, to: int | None = None, say: Say = lambda line: None) -> Published:
    """Make the version that was live before, or version `to`, live again. Raises InputError where there is none."""
    home = Repository(repository)
    if not home.numbers():
        raise InputError(f"{repository} is not a model repository: it has no versions")
    with locked(repository):
        target = home.previous_number() if to is None else to
        if target is None:
            raise InputError(f"{repository} has had no other live version to go back to")
        if target == home.live_number():
            raise InputError(f"version {target} is live already")
        if target not in home.numbers():
            known = ", ".join(map(str, home.numbers()))
            raise InputError(f"{repository} has no version {target}; it has {known}")
        return _promote(home.version(target, verify=True), home, say)


def _promote(version: Version, repository: Repository, say: Say) -> Published:
    live = repository.live_number()
    previous = live if live != version.number else repository.previous_number()
    beside = _whole(repository, previous if previous in (live, *repository.loaded_numbers()) else None, say)
    repository.write_adaptors(version.number, (PREPROCESS, POSTPROCESS))
    state = read_state(repository.folder)
    with _server(state) as api, _undone_on_failure(repository, api, say):
        repository.write_step_configs([*beside, version])
        if api is not None:
            say(
                f"loading version {version.number}"
                + "".join(f" beside version {old.number}" for old in beside)
            )
            for model in COMPOSING_MODELS:
                api.load(model)
            say(f"replaying the canary of version {version.number}")
            replay(api.client, version)
        repository.write_ensemble_config(version)
        repository.record_promotion(version.number)
        if api is not None:
            api.load(ENSEMBLE)
    return Published(version.number, previous, serving=state is not None)


def _whole(repository: Repository, number: int | None, say: Say) -> list[Version]:
    """The version that is to stay loaded; none where it is damaged, which must not keep another from being live."""
    try:
        return [] if number is None else [repository.version(number)]
    except InputError as error:
        say(f"version {number} does not stay loaded: {error}")
        return []


@contextlib.contextmanager
def _server(state: ServerState | None) -> Iterator[RepositoryApi | None]:
    if state is None:
        yield None
        return
    with RepositoryApi(state) as api:
        yield api


@contextlib.contextmanager
def _undone_on_failure(repository: Repository, api: RepositoryApi | None, say: Say) -> Iterator[None]:
    """Where the block fails, the disk says what it said before, and the server has loaded what it had."""
    try:
        with _kept([*map(repository.config_path, MODELS), repository.folder / PROMOTIONS]):
            yield
    except BaseException:
        # The ensemble first, so that it lets go of what the other steps then unload.
        if api is not None:
            _reload(api, say)
        raise


def _reload(api: RepositoryApi, say: Say) -> None:
    for model in MODELS:
        try:
            api.load(model)
        except FootfallError as error:
            say(f"{model} is not back where it was: {error}")


@contextlib.contextmanager
def _kept(paths: list[Path]) -> Iterator[None]:
    """Put the files back where the block fails; on a full disk too, as it takes no room to rename a copy."""
    copies = {path: path.with_name(f"{path.name}.before") for path in paths}
    try:
        for path, copy in copies.items():
            with replacing(path):
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


def _check_lineage(other: Version, version: Version, own: int | None) -> None:
    """`version` must extend `other`; the other way round where it is older, by its number in the repository."""
    if own is not None and own < other.number:
        check_successor(version, other.items, other.actions, other.lineage)
    else:
        check_successor(other, version.items, version.actions, version.lineage)


def _copy(version: Version, repository: Repository, number: int) -> Version:
    """What the manifest lists; whatever else lies in the folder was never checked."""
    with written_aside(repository.version_folder(number)) as folder:
        for name in (*version.manifest["files"], MANIFEST):
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise InputError(
                    f"{version.folder / MANIFEST} lists {name}, which lies outside of its folder"
                )
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(version.folder / name, folder / name)
    return repository.version(number, verify=True)
