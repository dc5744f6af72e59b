"""Publish: make a version the one that answers, without a failed request; and go back.

The ensemble's configuration pins each of its steps to one version. The new version's steps are loaded beside the
old ones and answer the canary first; then one rewrite of the ensemble's configuration moves all traffic. What lies
on disk is the truth at every instant: a restart serves the version that the ensemble's configuration pins.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from footfall.contract import COMPOSING_MODELS, ENSEMBLE, POSTPROCESS, PREPROCESS, RANKER
from footfall.errors import FootfallError, InputError
from footfall.folder import MANIFEST, written_aside
from footfall_engines.repository import (
    config_path,
    live_number,
    loaded_numbers,
    replacing,
    write_adaptors,
    write_ensemble_config,
    write_step_configs,
)
from footfall_engines.version import (
    Version,
    check_successor,
    next_number,
    version_folder,
    version_numbers,
)
from footfall_serving.canary import replay
from footfall_serving.lock import locked
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.state import ServerState, read_state

PROMOTIONS = ".promotions.jsonl"
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
    repository = repository or _home(folder)
    with locked(repository):
        own, live, numbers = (
            _own_number(version, repository),
            live_number(repository),
            version_numbers(repository),
        )
        neighbours = {number for number in (live, *numbers[-1:]) if number is not None and number != own}
        for number in sorted(neighbours):
            _check_lineage(Version.open(version_folder(repository, number)), version, own)
        if own is None:
            version = _copy(version, repository, next_number(repository))
        return _promote(version, repository, say)


def rollback(repository: Path, to: int | None = None, say: Say = lambda line: None) -> Published:
    """Make the version that was live before, or version `to`, live again. Raises InputError where there is none."""
    if not version_numbers(repository):
        raise InputError(f"{repository} is not a model repository: it has no versions")
    with locked(repository):
        live = live_number(repository)
        target = _previous(repository) if to is None else to
        if target is None:
            raise InputError(f"{repository} has had no other live version to go back to")
        if target == live:
            raise InputError(f"version {target} is live already")
        if target not in version_numbers(repository):
            known = ", ".join(map(str, version_numbers(repository)))
            raise InputError(f"{repository} has no version {target}; it has {known}")
        return _promote(Version.open(version_folder(repository, target), verify=True), repository, say)


def promotions(repository: Path) -> list[dict[str, Any]]:
    """Every promotion so far, oldest first: version, time."""
    path = repository / PROMOTIONS
    try:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    except ValueError as error:
        raise InputError(f"{path} is not a log of promotions: {error}") from error


def _promote(version: Version, repository: Path, say: Say) -> Published:
    live = live_number(repository)
    previous = live if live != version.number else _previous(repository)
    beside = _whole(repository, previous if previous in (live, *loaded_numbers(repository)) else None, say)
    write_adaptors(repository, version.number, (PREPROCESS, POSTPROCESS))
    state = read_state(repository)
    with _server(state) as api, _undone_on_failure(repository, api, say):
        write_step_configs(repository, [*beside, version])
        if api is not None:
            say(
                f"loading version {version.number}"
                + "".join(f" beside version {old.number}" for old in beside)
            )
            for model in COMPOSING_MODELS:
                api.load(model)
            say(f"replaying the canary of version {version.number}")
            replay(api.client, version)
        write_ensemble_config(repository, version)
        _record(repository, version.number)
        if api is not None:
            api.load(ENSEMBLE)
    return Published(version.number, previous, serving=state is not None)


def _whole(repository: Path, number: int | None, say: Say) -> list[Version]:
    """The version that is to stay loaded; none where it is damaged, which must not keep another from being live."""
    try:
        return [] if number is None else [Version.open(version_folder(repository, number))]
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
def _undone_on_failure(repository: Path, api: RepositoryApi | None, say: Say) -> Iterator[None]:
    """Where the block fails, the disk says what it said before, and the server has loaded what it had."""
    try:
        with _kept([*(config_path(repository, model) for model in MODELS), repository / PROMOTIONS]):
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


def _own_number(version: Version, repository: Path) -> int | None:
    """The version's number where its folder is one of the repository's."""
    name = version.folder.name
    inside = name.isdigit() and version.folder.resolve() == version_folder(repository, int(name)).resolve()
    return int(name) if inside else None


def _home(folder: Path) -> Path:
    """The repository a version's folder lies in."""
    place = folder.resolve()
    if place.parent.name != RANKER or not place.name.isdigit():
        raise InputError(
            f"{folder} does not lie in a model repository, as <repository>/{RANKER}/<number>; name one with"
            " --repository"
        )
    return place.parent.parent


def _copy(version: Version, repository: Path, number: int) -> Version:
    """What the manifest lists; whatever else lies in the folder was never checked."""
    with written_aside(version_folder(repository, number)) as folder:
        for name in (*version.manifest["files"], MANIFEST):
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise InputError(
                    f"{version.folder / MANIFEST} lists {name}, which lies outside of its folder"
                )
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(version.folder / name, folder / name)
    return Version.open(version_folder(repository, number), verify=True)


def _previous(repository: Path) -> int | None:
    """The version that was live before the one that is, if its folder is still there."""
    live, known = live_number(repository), set(version_numbers(repository))
    past = [entry["version"] for entry in promotions(repository) if entry["version"] != live]
    kept = [number for number in past if number in known]
    return kept[-1] if kept else None


def _record(repository: Path, number: int) -> None:
    line = json.dumps({"version": number, "time": datetime.now(UTC).isoformat(timespec="seconds")})
    with replacing(repository / PROMOTIONS), (repository / PROMOTIONS).open("a") as file:
        file.write(line + "\n")
