"""RepositoryApi: what the server has loaded, and having it load more, by its own gRPC socket and with the key.

Not through the door, which lets nobody ask the steps of the ensemble. Not over HTTP: a load holds the HTTP thread
that takes it. Of 16 HTTP clients 8 waited for a load of 12 s to end; none waited for one over gRPC.
"""

import re
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from footfall.contract import COMPOSING_MODELS, GRPC_KEY_HEADER
from footfall.errors import NotReadyError
from footfall_engines.repository import Repository
from footfall_serving.state import ServerState

LOAD_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 30.0
UNLOAD_TIMEOUT_S = 10.0
LOOK_TIMEOUT_S = 2.0
"""Of who only looks how the server is; one that hangs must not hold it up."""
SERVED_FOLDER = re.compile(r"/proc/self/fd/\d+/")
"""The server knows its repository by a descriptor (see server.py)."""


@dataclass(frozen=True)
class Traffic:
    """Requests to a model."""

    answered: int
    failed: int

    def __sub__(self, before: "Traffic") -> "Traffic":
        return Traffic(self.answered - before.answered, self.failed - before.failed)

    @property
    def failed_share(self) -> float:
        asked = self.answered + self.failed
        return self.failed / asked if asked else 0.0


class RepositoryApi:
    """Use as a context manager. Every method raises NotReadyError with the server's message."""

    def __init__(self, state: ServerState) -> None:
        self._headers = {GRPC_KEY_HEADER: state.repository_key}
        self.client = _client(state)

    def __enter__(self) -> "RepositoryApi":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.client.close()

    def load(self, model: str, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """(Re)load `model` by the configuration on disk; the call ends when it serves."""
        self._call(self.client.load_model, model, client_timeout=timeout_s)

    def unload(self, model: str, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """The call ends when it takes no more requests; the models that it asks stay."""
        self._call(self.client.unload_model, model, client_timeout=timeout_s)

    def traffic(self, model: str) -> "Traffic":
        """Of all its versions, since the server started."""
        facts = self._call(self.client.get_inference_statistics, model, client_timeout=LOOK_TIMEOUT_S)
        counts = [version.inference_stats for version in facts.model_stats]
        return Traffic(sum(int(of.success.count) for of in counts), sum(int(of.fail.count) for of in counts))

    def load_steps(self, repository: Repository, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """(Re)load the composing models that have a configuration on disk, and let go of the others."""
        stale = {model for model, _ in self.ready_versions()} & set(COMPOSING_MODELS)
        for model in COMPOSING_MODELS:
            if repository.config_path(model).is_file():
                self.load(model, timeout_s)
            elif model in stale:
                self.unload(model, timeout_s)

    def count_answers(self, model: str) -> int:
        """How many requests the model has answered so far, of all its versions."""
        return self.traffic(model).answered

    def ready_versions(self, timeout_s: float = CALL_TIMEOUT_S) -> set[tuple[str, int]]:
        """(model, version) pairs that take requests."""
        index = self._call(self.client.get_model_repository_index, client_timeout=timeout_s)
        return {(model.name, int(model.version)) for model in index.models if model.state == "READY"}

    def await_unloaded(self, timeout_s: float = UNLOAD_TIMEOUT_S) -> None:
        """Until what a load let go of has ended, whose last requests it may still work on."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            index = self._call(self.client.get_model_repository_index, client_timeout=CALL_TIMEOUT_S)
            if not any(model.state == "UNLOADING" for model in index.models):
                return
            time.sleep(0.05)

    def _call(self, method: Any, *arguments: Any, client_timeout: float) -> Any:
        try:
            return method(*arguments, headers=self._headers, client_timeout=client_timeout)
        except InferenceServerException as error:
            raise NotReadyError(f"the server refused {method.__name__}: {first_line(error)}") from error


def first_line(error: InferenceServerException) -> str:
    """What the server says, without the Python stack of its stub that may follow."""
    return SERVED_FOLDER.sub("", str(error.message()).strip().partition("\n")[0])


def _client(state: ServerState) -> grpcclient.InferenceServerClient:
    # A channel of its own, and soon connected again: the one to a server that has just died waits up to 2 minutes.
    arguments = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    return grpcclient.InferenceServerClient(f"unix:{quote(state.grpc_file)}", channel_args=arguments)
