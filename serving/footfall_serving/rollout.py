"""Rollout: a version that is loaded is tried on real requests before it is live: compared in the shadow, then asked.

In the shadow both versions answer copies of requests, and nobody gets the new one's answers. Then a share of the
users gets them, each user always the same version's. What passes a limit is not promoted. The rollout lasts as long
as its process: where that ends, however it does, the door sends everybody to the live version again.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from footfall.contract import CANDIDATE_ENSEMBLE, ENSEMBLE
from footfall.errors import FootfallError, InputError, NotReadyError
from footfall.folder import replacing
from footfall_engines.repository import ASIDE, Repository, Say
from footfall_engines.version import Version
from footfall_serving.comparison import Pair, Tally
from footfall_serving.copies import Copies
from footfall_serving.door.hold import held
from footfall_serving.heartbeat import Heartbeat
from footfall_serving.launch import READY_TIMEOUT_S
from footfall_serving.lock import Lock, is_locked, is_tried, tried
from footfall_serving.repository_api import RepositoryApi, Traffic
from footfall_serving.rollout_options import RolloutOptions
from footfall_serving.state import ServerState

ROLLOUT_FILE, END_FILE = f"{ASIDE}/rollout.json", f"{ASIDE}/rollout.end"
ENDED_FILE = ".rolled_back.log"
"""Why, a line a version that was not promoted."""
LOOK_S = 1.0
END_TIMEOUT_S = 60.0
RELOCK_S = READY_TIMEOUT_S + 30.0
"""As long as the start of a server may take, that died meanwhile."""


class RolledBack(InputError):
    """The version passed a limit, or somebody ended its rollout."""


def read_rollout(repository: Path) -> dict[str, Any] | None:
    """Of the rollout that is under way: version, live, stage, share, and what was counted; None where none is."""
    if not is_tried(repository):
        return None
    try:
        found: dict[str, Any] = json.loads((repository / ROLLOUT_FILE).read_text())
    except FileNotFoundError:
        return None
    return found


def num_rolled_back(repository: Path) -> int:
    """How many versions were tried in the repository and not promoted."""
    try:
        return (repository / ENDED_FILE).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def end_rollout(repository: Path) -> None:
    """Have the rollout that is under way end without its version, and wait for that."""
    with replacing(repository / END_FILE):
        (repository / END_FILE).touch()
    deadline = time.monotonic() + END_TIMEOUT_S
    while is_tried(repository) or is_locked(repository):
        if time.monotonic() > deadline:
            raise NotReadyError(f"the rollout in {repository} has not ended within {END_TIMEOUT_S:.0f} s")
        time.sleep(0.1)


@contextlib.contextmanager
def rolled_out(
    candidate: Version,
    live: Version,
    repository: Repository,
    state: ServerState,
    options: RolloutOptions,
    lock: Lock,
    say: Say,
) -> Iterator[None]:
    """Try `candidate`, which is loaded beside `live`; in the block it is to take the traffic, so that nobody whom it
    answered goes back. Raises RolledBack, NotReadyError where the server fails.

    Meanwhile the repository's lock is let go, so that a stub that dies is loaded again.
    """
    with (
        tried(repository.folder),
        RepositoryApi(state) as api,
        _reported(repository) as report,
        _ensemble(candidate, repository, state, api, say),
        Copies(state.grpc_file) as copies,
        contextlib.closing(Pair(state.grpc_file)) as pair,
    ):
        trial = _Trial(candidate, live, repository, api, copies, pair, options, report)
        for stage in options.stages:
            share = getattr(options, stage)
            say(f"version {candidate.number} is tried: {stage}, {share:.1%} for {options.stage_s:g} s")
            with lock.let_go(RELOCK_S):
                trial.run(stage)
            say(f"{stage}: {trial.sentence}")
        yield


@dataclass
class _Trial:
    candidate: Version
    live: Version
    repository: Repository
    api: RepositoryApi
    copies: Copies
    pair: Pair
    options: RolloutOptions
    report: Callable[[dict[str, Any]], None]
    sentence: str = ""

    def run(self, stage: str) -> None:
        options = self.options
        sent = options.canary if stage == "canary" else 0.0
        tally, heart = Tally(), Heartbeat(self.api, self.live)
        before = {name: self.api.traffic(name) for name in (ENSEMBLE, CANDIDATE_ENSEMBLE)}
        self.copies.order(options.shadow, sent, str(self.candidate.number))
        deadline = time.monotonic() + options.stage_s
        while True:
            ended = time.monotonic() >= deadline
            for message in self.copies.take(0.0 if ended else LOOK_S):
                self.pair.ask(message, tally)
                if time.monotonic() >= deadline:
                    break
            live, tried = (self.api.traffic(name) - old for name, old in before.items())
            counted = tried.answered + tried.failed if stage == "canary" else tally.requests
            facts = {"stage": stage, "share": sent or options.shadow, **tally.facts()}
            facts |= {"answered": tried.answered, "failed": tried.failed}
            self.report({"version": self.candidate.number, "live": self.live.number, **facts})
            self.sentence = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "stage")
            self._check(tally, live, tried)
            if not heart.is_alive():
                raise NotReadyError(f"version {self.live.number} does not answer, the rollout ends")
            if ended:
                break
        if counted < options.min_requests:
            raise self._rolled_back(f"{stage} saw {counted} requests, {options.min_requests} are needed")

    def _check(self, tally: Tally, live: Traffic, tried: Traffic) -> None:
        options = self.options
        if (self.repository.folder / END_FILE).exists():
            raise self._rolled_back("its rollout was ended")
        most = options.max_errors * max(tally.requests, options.min_requests)
        if tally.errors > most:
            raise self._rolled_back(f"it fails {tally.errors} of {tally.requests} compared requests")
        asked = tried.answered + tried.failed
        if tried.failed - live.failed_share * asked > options.max_errors * max(asked, options.min_requests):
            raise self._rolled_back(f"it fails {tried.failed} of {asked} requests")
        if tally.requests >= max(options.min_requests, 1):
            for what, value, limit in (
                ("latency ratio", tally.latency_ratio, options.max_latency),
                ("drift", tally.drift, options.max_drift),
            ):
                if value > limit:
                    raise self._rolled_back(f"its {what} is {value:.3g}, the limit is {limit:g}")
            if tally.overlap < options.min_overlap:
                raise self._rolled_back(
                    f"its lists have {tally.overlap:.1%} in common with the live version's, the least is"
                    f" {options.min_overlap:.1%}"
                )

    def _rolled_back(self, why: str) -> RolledBack:
        return RolledBack(
            f"version {self.candidate.number} is not promoted: {why}; version {self.live.number} stays live"
        )


@contextlib.contextmanager
def _ensemble(
    candidate: Version, repository: Repository, state: ServerState, api: RepositoryApi, say: Say
) -> Iterator[None]:
    """An ensemble of the candidate beside the live one's, which the door sends to."""
    repository.write_ensemble_config(candidate, CANDIDATE_ENSEMBLE)
    try:
        api.load(CANDIDATE_ENSEMBLE)
        yield
    except NotReadyError:
        forget_candidate(repository, api, say)
        raise
    except BaseException:
        _forget_when_idle(repository, state, api, say)
        raise
    _forget_when_idle(repository, state, api, say)


def _forget_when_idle(repository: Repository, state: ServerState, api: RepositoryApi, say: Say) -> None:
    """Once those are answered who were sent to the candidate, be it that they waited for their turn at the door."""
    with held(state.grpc_file):
        forget_candidate(repository, api, say)


def forget_candidate(repository: Repository, api: RepositoryApi, say: Say) -> None:
    """Also what a killed publisher left."""
    folder = repository.folder / CANDIDATE_ENSEMBLE
    if not folder.exists():
        return
    try:
        api.unload(CANDIDATE_ENSEMBLE)
    except FootfallError as error:  # the server may be gone
        say(f"{CANDIDATE_ENSEMBLE} is not unloaded: {error}")
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _reported(repository: Repository) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yields what writes how the rollout stands, for `footfall versions`."""
    path, end = repository.folder / ROLLOUT_FILE, repository.folder / END_FILE

    def report(facts: dict[str, Any]) -> None:
        repository.write_texts({path: json.dumps(facts) + "\n"})

    end.unlink(missing_ok=True)
    try:
        yield report
    except RolledBack as error:
        with contextlib.suppress(OSError), (repository.folder / ENDED_FILE).open("a") as log:
            log.write(json.dumps({"time": datetime.now(UTC).isoformat(), "why": str(error)}) + "\n")
        raise
    finally:
        for file in (path, end):
            file.unlink(missing_ok=True)
