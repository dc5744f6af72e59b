"""Publish: make a version the one that answers, without a failed request; and go back.

The ensemble's configuration pins each of its steps to one version. The new version's steps are loaded beside the
old ones and answer the canary first; then one rewrite of the ensemble's configuration moves all traffic. What lies
on disk is the truth at every instant: a restart serves the version that the ensemble's configuration pins.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from footfall.contract import COMPOSING_MODELS, ENSEMBLE, POSTPROCESS, PREPROCESS
from footfall.errors import InputError
from footfall.folder import written_aside
from footfall_export.repository import (
    live_number,
    loaded_numbers,
    write_adaptors,
    write_ensemble_config,
    write_step_configs,
)
from footfall_export.version import (
    Version,
    check_successor,
    next_number,
    version_folder,
    version_numbers,
)
from footfall_serving.canary import replay
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.state import read_state

PROMOTIONS = ".promotions.jsonl"
LOCK = ".publish.lock"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Published:
    """`previous` stays loaded for a rollback; `serving` tells whether a running server answers with `live`."""

    live: int
    previous: int | None
    serving: bool


def publish(folder: Path, repository: Path, say: Say = lambda line: None) -> Published:
    """Make the version in `folder` live; it is copied into `repository` as its newest where it lies elsewhere.

    Raises InputError where the folder is incomplete, altered, of another lineage or answers its canary wrongly;
    the version that was live stays so.
    """
    with _locked(repository):
        version = Version.open(folder, verify=True)
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
    with _locked(repository):
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
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _promote(version: Version, repository: Path, say: Say) -> Published:
    live = live_number(repository)
    previous = live if live != version.number else _previous(repository)
    old = [] if previous is None else [Version.open(version_folder(repository, previous))]
    write_adaptors(repository, version.number, (PREPROCESS, POSTPROCESS))
    before = loaded_numbers(repository)
    write_step_configs(repository, [*old, version])
    state = read_state(repository)
    if state is None:
        write_ensemble_config(repository, version)
        _record(repository, version.number)
        return Published(version.number, previous, serving=False)
    with RepositoryApi(state) as api:
        try:
            say(f"loading version {version.number} beside version {previous}")
            for model in COMPOSING_MODELS:
                api.load(model)
            say(f"replaying the canary of version {version.number}")
            replay(api.client, version)
        except BaseException:
            _restore(repository, before, api)
            raise
        write_ensemble_config(repository, version)
        _record(repository, version.number)
        api.load(ENSEMBLE)
    return Published(version.number, previous, serving=True)


def _restore(repository: Path, numbers: list[int], api: RepositoryApi) -> None:
    """Have the server load what it had before a version that failed."""
    write_step_configs(repository, [Version.open(version_folder(repository, number)) for number in numbers])
    for model in COMPOSING_MODELS:
        api.load(model)


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


def _copy(version: Version, repository: Path, number: int) -> Version:
    with written_aside(version_folder(repository, number)) as folder:
        shutil.copytree(version.folder, folder, dirs_exist_ok=True)
    return Version.open(version_folder(repository, number), verify=True)


def _previous(repository: Path) -> int | None:
    """The version that was live before the one that is, if its folder is still there."""
    live, known = live_number(repository), set(version_numbers(repository))
    past = [entry["version"] for entry in promotions(repository) if entry["version"] != live]
    kept = [number for number in past if number in known]
    return kept[-1] if kept else None


def _record(repository: Path, number: int) -> None:
    line = json.dumps({"version": number, "time": datetime.now(UTC).isoformat(timespec="seconds")})
    with (repository / PROMOTIONS).open("a") as file:
        file.write(line + "\n")


@contextmanager
def _locked(repository: Path) -> Iterator[None]:
    """Hold the repository's lock; the kernel lets go of it when its holder dies."""
    repository.mkdir(parents=True, exist_ok=True)
    with (repository / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another publish or rollback is at work in {repository}") from None
        yield
