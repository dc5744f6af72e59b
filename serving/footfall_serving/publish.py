"""Publish: make a version the one that answers, without a failed request; and go back.

The ensemble's configuration pins each of its steps to one version. The new version's steps are loaded beside the
old ones and answer the canary first; then one rewrite of the ensemble's configuration moves all traffic. What lies
on disk is the truth at every instant: a restart serves the version that the ensemble's configuration pins.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from footfall.contract import ENSEMBLE, RANKER
from footfall.errors import InputError, NotReadyError
from footfall.folder import MANIFEST, aside, writing
from footfall_engines.repository import ASIDE, SILENT, Repository, Say
from footfall_engines.version import Version, check_successor
from footfall_serving.bytecode import compile_adaptors
from footfall_serving.canary import replay
from footfall_serving.door.hold import held
from footfall_serving.heartbeat import Heartbeat
from footfall_serving.lock import Lock, is_served, publishing
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.rollout import end_rollout, forget_candidate, read_rollout, rolled_out
from footfall_serving.rollout_options import AT_ONCE, RolloutOptions
from footfall_serving.state import ServerState, read_state
from footfall_serving.undo import undone_on_failure

START_TIMEOUT_S = 120.0
"""Of a server that is started again: as long as one that `serve` starts."""


@dataclass(frozen=True)
class Published:
    """`previous` stays loaded for a rollback; `serving` tells whether a running server answers with `live`."""

    live: int
    previous: int | None
    serving: bool


def publish(
    folder: Path,
    repository: Path | None = None,
    say: Say = SILENT,
    rollout: RolloutOptions = AT_ONCE,
) -> Published:
    """Make the version in `folder` live; it is copied into `repository` as its newest where it lies elsewhere.

    `repository` None is the one the folder lies in. Raises InputError where the folder is incomplete, altered, of
    another lineage, answers its canary wrongly or passes a limit of `rollout`; the version that was live stays so.
    """
    version = Version.open(folder, verify=True)
    home = Repository.around(folder) if repository is None else Repository(repository)
    with publishing(home.folder) as lock:
        own = home.number_of(folder)

        def check(say: Say = SILENT) -> None:
            for neighbour in _neighbours(home, own, say):
                _check_lineage(neighbour, version, own)

        check(say)
        done = _promote(version if own else _copy(version, home, check), home, lock, say, rollout=rollout)
    return _awaited(done, home, say)


def rollback(repository: Path, to: int | None = None, say: Say = SILENT) -> Published:
    """Make the version that was live before, or version `to`, live again. Raises InputError where there is none."""
    home = Repository(repository)
    if not home.numbers():
        raise InputError(f"{repository} is not a model repository: it has no versions")
    under_way = read_rollout(repository)
    if under_way is not None:
        say(f"ending the rollout of version {under_way['version']}")
        end_rollout(repository)
        live = home.live_number()
        if live is not None and to in (None, live):
            previous = next(iter(home.earlier_numbers()), None)
            return Published(live, previous, serving=read_state(repository) is not None)
    with publishing(repository) as lock:
        target = _before(home, say) if to is None else _named(home, to)
        done = _promote(target, home, lock, say, back=True)
    return _awaited(done, home, say)


def _before(repository: Repository, say: Say) -> Version:
    """The whole version that was live before the one that is."""
    for number in repository.earlier_numbers():
        try:
            return repository.version(number, verify=True)
        except InputError as error:
            say(f"version {number} is passed over: {error}")
    raise InputError(f"{repository.folder} has no earlier live version to go back to; --to names any other")


def _named(repository: Repository, number: int) -> Version:
    if number == repository.live_number():
        raise InputError(f"version {number} is live already")
    if number not in repository.numbers():
        known = ", ".join(map(str, repository.numbers()))
        raise InputError(f"{repository.folder} has no version {number}; it has {known}")
    return repository.version(number, verify=True)


def _promote(
    version: Version,
    repository: Repository,
    lock: Lock,
    say: Say,
    *,
    back: bool = False,
    rollout: RolloutOptions = AT_ONCE,
) -> Published:
    live = repository.live_number()
    previous = live if live != version.number else next(iter(repository.earlier_numbers()), None)
    beside = _whole(repository, previous if previous in (live, *repository.loaded_numbers()) else None, say)
    repository.write_adaptors(version.number, version.steps)
    compile_adaptors(repository, version.number)
    state = _answering(repository, version, say)
    if rollout.stages and (state is None or not beside or live in (None, version.number)):
        raise InputError(
            f"version {version.number} can be tried only where a server answers with another version"
        )
    with (
        _server(state) as api,
        undone_on_failure(repository, api, say),
        contextlib.ExitStack() as until_it_answers,
    ):
        if state is None or api is None:
            repository.write_step_configs([*beside, version])
        else:
            forget_candidate(repository, api, say)
            is_lost = live not in (None, version.number, *(old.number for old in beside))
            if is_lost or not _loads_beside(beside, version, repository, api, say):
                if rollout.stages:
                    raise InputError(
                        f"version {live} does not stay loaded; publish without shadow and canary"
                    )
                # The server lets go of what does not load again as soon as any of its steps is loaded without it.
                say(
                    f"callers wait at the door while version {version.number} takes the place of version {live}"
                )
                until_it_answers.enter_context(held(state.grpc_file))
                _load([version], repository, api)
            say(f"replaying the canary of version {version.number}")
            replay(api.client, version)
            if rollout.stages:
                trial = rolled_out(version, beside[0], repository, state, rollout, lock, say)
                until_it_answers.enter_context(trial)
        repository.write_ensemble_config(version)
        repository.record_promotion(version.number, back=back)
        if api is not None:
            api.load(ENSEMBLE)
    return Published(version.number, previous, serving=state is not None)


def _loads_beside(
    beside: list[Version], version: Version, repository: Repository, api: RepositoryApi, say: Say
) -> bool:
    """Whether the server has the steps of all of them now; else it has what it had. Raises NotReadyError where that
    is for `version` itself.
    """
    say(f"loading version {version.number}" + "".join(f" beside version {old.number}" for old in beside))
    try:
        _let_go([*beside, version], repository, api)
        _load([*beside, version], repository, api)
    except NotReadyError as error:
        damaged = [old for old in beside if f"version {old.number} is at UNAVAILABLE" in str(error)]
        if not damaged or f"version {version.number} is at UNAVAILABLE" in str(error):
            raise
        say(f"version {damaged[0].number} does not stay loaded: {error}")
        return False
    return True


def _let_go(wanted: list[Version], repository: Repository, api: RepositoryApi) -> None:
    """Of what is loaded and not `wanted`, before more is loaded: so that two engines lie in memory at the peak."""
    loaded = repository.loaded_numbers()
    staying = [version for version in wanted if version.number in loaded]
    if staying and len(staying) < len(loaded):
        _load(staying, repository, api)
        api.await_unloaded()


def _load(versions: list[Version], repository: Repository, api: RepositoryApi) -> None:
    """Raises NotReadyError; of each step all of the versions are loaded or none."""
    repository.write_step_configs(versions)
    api.load_steps(repository)


def _answering(repository: Repository, version: Version, say: Say) -> ServerState | None:
    """The repository's server if it answers: no load brings one to life that does not, and some never end."""
    state = read_state(repository.folder)
    if state is None:
        return None
    with RepositoryApi(state) as api:
        if Heartbeat(api, version).is_alive():
            return state
    say(f"the server does not answer; version {version.number} becomes live on disk, for its next start")
    return None


def _awaited(done: Published, repository: Repository, say: Say) -> Published:
    """Where somebody serves the repository and his server was down or hung: once it has started on the version."""
    if done.serving or not is_served(repository.folder):
        return done
    say(f"waiting for the server to be started again, with version {done.live}")
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and is_served(repository.folder):
        state = read_state(repository.folder)
        if state is not None:
            with RepositoryApi(state) as api, contextlib.suppress(NotReadyError):
                if Heartbeat(api, repository.version(done.live)).ask() == done.live:
                    return replace(done, serving=True)
        time.sleep(0.2)
    raise NotReadyError(
        f"version {done.live} is live in {repository.folder}, but its server does not answer with it; what `footfall"
        " serve` says tells why"
    )


def _neighbours(repository: Repository, own: int | None, say: Say) -> list[Version]:
    """The newest version and the live one, as far as they are whole and not `own`: a damaged one blocks no other."""
    numbers, live = repository.numbers(), repository.live_number()
    newest = None if own is not None and own == numbers[-1] else repository.newest(say)
    found = {} if newest is None or newest.number == own else {newest.number: newest}
    if live is not None and live not in (own, *found):
        found |= {version.number: version for version in _whole(repository, live, say)}
    return [found[number] for number in sorted(found)]


def _whole(repository: Repository, number: int | None, say: Say) -> list[Version]:
    """The version, or none where it is damaged, which must not keep another from being live."""
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


def _check_lineage(other: Version, version: Version, own: int | None) -> None:
    """`version` must extend `other`; the other way round where it is older, by its number in the repository."""
    if own is not None and own < other.number:
        check_successor(version, other.items, other.actions, other.lineage)
    else:
        check_successor(other, version.items, version.actions, version.lineage)


def _copy(version: Version, repository: Repository, check: Callable[[], None]) -> Version:
    """What the manifest lists; whatever else lies in the folder was never checked."""
    with writing(repository.folder / RANKER), aside(repository.folder / ASIDE) as folder:
        for name in (*version.manifest["files"], MANIFEST):
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise InputError(
                    f"{version.folder / MANIFEST} lists {name}, which lies outside of its folder"
                )
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(version.folder / name, folder / name)
        number = repository.take_in(folder, check)
    return repository.version(number, verify=True)
