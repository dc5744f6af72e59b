"""Supervisor: watches a server's stubs and has a model loaded again when one of its stubs died.

The server itself answers "ready" for a model whose stub is dead, fails its requests for good, and takes no
reload for needed unless a file of the version changed; hence the look at processes and the touch.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from footfall.contract import COMPOSING_MODELS, RANKER
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.state import ServerState, is_running
from footfall_serving.stubs import count_stubs, live_stubs, remove_orphaned_regions

PERIOD_S = 1.0


class Supervisor(threading.Thread):
    """Runs until `stop`; says what it does through `say`."""

    def __init__(self, repository: Path, state: ServerState, say: Callable[[str], None]) -> None:
        super().__init__(name="supervisor", daemon=True)
        self._repository, self._state, self._say = repository, state, say
        self._api = RepositoryApi(state)
        self._ended = threading.Event()
        self._suspects: set[tuple[str, int]] = set()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        with self._api:
            while not self._ended.wait(PERIOD_S):
                try:
                    if not is_running(self._state.pid):
                        return
                    self._look()
                except Exception as error:  # whatever it is, the next look may succeed
                    self._say(f"supervisor: {error}")

    def _look(self) -> None:
        """Reload what is ready but has no stub, if it was so at the last look too: a swap is not a crash."""
        stubs = live_stubs(self._state.pid)
        alive = count_stubs(stubs)
        missing = {
            (model, version)
            for model, version in self._api.ready_versions()
            if model in COMPOSING_MODELS and not alive[model, version] and self._has_stub(model, version)
        }
        for model, version in sorted(missing & self._suspects):
            self._say(f"supervisor: the stub of {model} version {version} died; loading it again")
            (self._repository / model / str(version) / "model.py").touch()
            self._api.load(model)
            remove_orphaned_regions(self._state.shm_prefix, live_stubs(self._state.pid))
            self._say(f"supervisor: {model} version {version} serves again")
        self._suspects = missing

    def _has_stub(self, model: str, version: int) -> bool:
        """A plan that the server runs itself has none."""
        return model != RANKER or (self._repository / model / str(version) / "model.py").is_file()
