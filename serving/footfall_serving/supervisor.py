"""Supervisor: brings a server back that died, hangs or has lost a stub, and keeps its state file true.

The server itself answers "ready" for a model whose stub is dead, fails its requests for good, and takes no
reload for needed unless a file of the version changed; hence the look at processes and the touch. Whatever it does,
it says that the server serves again only once that has given a real answer.
"""

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from footfall.contract import COMPOSING_MODELS
from footfall.errors import FootfallError, InputError, NotReadyError
from footfall_engines.repository import Repository
from footfall_serving.busy import busy_since
from footfall_serving.heartbeat import BUSY_S, WORKS, Heartbeat
from footfall_serving.launch import Ended, Launch, Running, live_number
from footfall_serving.lock import BusyError, is_locked, is_tried, locked
from footfall_serving.repository_api import LOOK_TIMEOUT_S, RepositoryApi
from footfall_serving.state import remove_state
from footfall_serving.stubs import (
    Stub,
    count_stubs,
    is_stopped,
    live_stubs,
    remove_orphaned_regions,
    stub_worked_s,
    worked_s,
)

PERIOD_S = 1.0
PATIENCE_S = 8.0
"""Without an answer to anybody, before the server is replaced: two heartbeats."""
PATIENCE_WITH_A_PUBLISH_S = 15.0
"""Who publishes or rolls back may mend it; not for longer, for a load on a server that hangs never ends."""
RELOAD_TIMEOUT_S = 20.0
PUBLISH_TIMEOUT_S = 4.0
"""How long a start waits for a publish at work, which ends once it finds its server gone."""
LEFT_S = 2.0
"""What a stub of before has to end by itself after a load."""
MAX_PAUSE_S = 30.0
STEADY_S = 30.0
"""A server that served for so long has not died of what the one before it died of."""


@dataclass(frozen=True)
class AtABatch:
    """A stub that is at the same batch since `looks` looks; what it had worked at the first of them."""

    since: float
    worked_s: float
    looks: int = 0


class Supervisor(threading.Thread):
    """Runs until `stop`, which ends the server too; says what it does through `say`."""

    def __init__(
        self, launch: Launch, running: Running, say: Callable[[str], None], restarts: Counter[str]
    ) -> None:
        """restarts: counts what is started again, "server" or "stub"."""
        super().__init__(name="supervisor", daemon=True)
        self._launch, self._repository = launch, Repository(launch.repository)
        self._tell, self._restarts = say, restarts
        self._ended = threading.Event()
        self._num_deaths = 0
        self._watch(running)

    def stop(self) -> None:
        self._ended.set()
        remove_state(self._launch.repository)
        self._running.process.end()  # first, so that a call to the server ends too
        self.join()
        self._running.process.end()  # where it was brought up meanwhile
        remove_state(self._launch.repository)
        self._api.close()

    def run(self) -> None:
        while not self._ended.wait(PERIOD_S):
            try:
                self._look()
            except Ended:
                return
            except Exception as error:  # whatever it is, the next look may succeed
                if not self._ended.is_set():
                    self._say(str(error))

    def _say(self, line: str) -> None:
        self._tell(f"supervisor: {line}")

    def _watch(self, running: Running) -> None:
        self._running, self._since = running, time.monotonic()
        self._api = RepositoryApi(running.state)
        self._heart = Heartbeat(self._api, running.version)
        self._suspects: set[tuple[str, int]] = set()
        self._at_a_batch: dict[str, AtABatch] = {}

    def _look(self) -> None:
        trouble = self._trouble()
        if trouble is not None:
            self._start_again(trouble)

    def _trouble(self) -> str | None:
        """What only a new server mends, or None; what a load mends is mended."""
        process, pid = self._running.process, self._running.state.pid
        if (how := process.died()) is not None:
            return how
        if is_stopped(pid):
            return "was stopped"
        patience_s = PATIENCE_WITH_A_PUBLISH_S if is_locked(self._launch.repository) else PATIENCE_S
        trouble = self._heart.look(worked_s(pid), patience_s)
        if trouble is not None:
            return trouble
        stubs = self._stubs()
        self._end_stopped(stubs)
        self._end_stuck(stubs, patience_s)
        with contextlib.suppress(BusyError):  # the next look finds it too
            return self._reload_what_lost_its_stub()
        return None

    def _start_again(self, how: str) -> None:
        """At once; after repeated deaths with a pause that doubles, or until another version is live."""
        remove_state(self._launch.repository)
        self._running.process.kill()  # and what it left
        self._api.close()
        if time.monotonic() - self._since > STEADY_S:
            self._num_deaths = 0
        while True:
            pause_s = min(2.0 ** (self._num_deaths - 1), MAX_PAUSE_S) if self._num_deaths else 0.0
            self._num_deaths += 1
            self._restarts["server"] += 1
            self._say(f"the server {how}; it is started again" + (f" in {pause_s:.0f} s" if pause_s else ""))
            self._pause(pause_s)
            try:
                self._watch(self._launch.bring_up(self._ended.is_set, PUBLISH_TIMEOUT_S))
            except FootfallError as error:
                how = f"did not come back: {error}"
            else:
                self._say(f"version {self._running.version.number} serves again")
                return

    def _pause(self, seconds: float) -> None:
        live, deadline = self._repository.live_number(), time.monotonic() + seconds
        while time.monotonic() < deadline and self._repository.live_number() == live:
            if self._ended.wait(0.2):
                raise Ended

    def _end_stopped(self, stubs: list[Stub]) -> None:
        for stub in stubs:
            if is_stopped(stub.pid):
                self._end_stub(stub, "was stopped")

    def _end_stuck(self, stubs: list[Stub], patience_s: float) -> None:
        """Those at one batch for twice as long, while others of their model answer; who computes has until BUSY_S."""
        before, self._at_a_batch = self._at_a_batch, {}
        for stub in stubs:
            since = busy_since(stub.region)
            if not since:
                continue
            worked = stub_worked_s(stub.pid)
            known = before.get(stub.region)
            if known is None or known.since != since:
                known = AtABatch(since, worked)
            self._at_a_batch[stub.region] = known = replace(known, looks=known.looks + 1)
            seen_s = known.looks * PERIOD_S
            if seen_s > (BUSY_S if worked - known.worked_s > WORKS * seen_s else 2 * patience_s):
                self._end_stub(stub, f"is at one batch for more than {seen_s - PERIOD_S:.0f} s")

    def _end_stub(self, stub: Stub, why: str) -> None:
        self._say(f"a stub of {stub.model} version {stub.version} {why}; it is ended")
        with contextlib.suppress(ProcessLookupError):
            os.kill(stub.pid, signal.SIGKILL)
        self._suspects.add((stub.model, stub.version))

    def _reload_what_lost_its_stub(self) -> str | None:
        """Reload what is ready but lacks a stub, if it was so at the last look too: a swap is not a crash."""
        ready = self._api.ready_versions(LOOK_TIMEOUT_S)
        alive = count_stubs(self._stubs())
        missing = {
            (model, version)
            for model, version in ready
            if model in COMPOSING_MODELS and alive[model, version] < self._num_stubs(model, version)
        }
        lost, self._suspects = sorted(missing & self._suspects), missing
        for model, version in lost:
            self._restarts["stub"] += 1
            with locked(self._launch.repository):
                try:
                    self._reload(model, version)
                except NotReadyError as error:
                    return f"does not get {model} version {version} back: {error}"
        return None

    def _reload(self, model: str, version: int) -> None:
        """Raises NotReadyError where the server does not answer then, or would by other files than were sealed."""
        live = live_number(self._launch.repository)
        if version != live and is_tried(self._launch.repository):
            return  # its trial shows what it lacks, and ends
        left = [stub for stub in self._stubs() if (stub.model, stub.version) == (model, version)]
        if version == live:
            self._verify(version)
            self._say(f"a stub of {model} version {version} died; loading it again")
            (self._launch.repository / model / str(version) / "model.py").touch()
            self._api.load(model, RELOAD_TIMEOUT_S)
        else:
            self._say(f"a stub of {model} version {version} died; it is not live, and let go")
            self._repository.write_step_configs([self._repository.version(live)])
            self._api.load_steps(self._repository, RELOAD_TIMEOUT_S)
        self._end_left(left)
        remove_orphaned_regions(self._running.state.shm_prefix, self._stubs())
        self._heart.ask(RELOAD_TIMEOUT_S)
        if version == live:
            self._say(f"{model} version {version} serves again")

    def _verify(self, version: int) -> None:
        try:
            self._repository.version(version, verify=True)
        except InputError as error:
            raise NotReadyError(str(error)) from error

    def _end_left(self, stubs: list[Stub]) -> None:
        """Of a model that was loaded anew: the server does not end those whose neighbour died."""
        deadline = time.monotonic() + LEFT_S
        while stubs and time.monotonic() < deadline:  # for the batch that one is at
            time.sleep(0.1)
            running = {stub.pid for stub in self._stubs()}
            stubs = [stub for stub in stubs if stub.pid in running]
        for stub in stubs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stub.pid, signal.SIGKILL)
        while {stub.pid for stub in stubs} & {stub.pid for stub in self._stubs()}:
            time.sleep(0.01)

    def _stubs(self) -> list[Stub]:
        return live_stubs(self._running.state.pid)

    def _num_stubs(self, model: str, version: int) -> int:
        """What it is to have; a plan that the server runs itself has none."""
        adaptor = self._launch.repository / model / str(version) / "model.py"
        return self._repository.num_instances(model) if adaptor.is_file() else 0
