"""RepositoryApi: what the server has loaded, and having it load more, over gRPC with the key that guards it."""

from types import TracebackType
from typing import Any

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from footfall.contract import GRPC_KEY_HEADER
from footfall.errors import NotReadyError
from footfall_serving.state import ServerState

LOAD_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 30.0


class RepositoryApi:
    """Use as a context manager. Every method raises NotReadyError with the server's message."""

    def __init__(self, state: ServerState) -> None:
        self._headers = {GRPC_KEY_HEADER: state.repository_key}
        self.client = grpcclient.InferenceServerClient(
            state.grpc_url, ssl=state.tls_root is not None, root_certificates=state.tls_root
        )

    def __enter__(self) -> "RepositoryApi":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def load(self, model: str) -> None:
        """(Re)load `model` by the configuration on disk; the call ends when it serves."""
        self._call(self.client.load_model, model, client_timeout=LOAD_TIMEOUT_S)

    def ready_versions(self) -> set[tuple[str, int]]:
        """(model, version) pairs that take requests."""
        index = self._call(self.client.get_model_repository_index, client_timeout=CALL_TIMEOUT_S)
        return {(model.name, int(model.version)) for model in index.models if model.state == "READY"}

    def _call(self, method: Any, *arguments: Any, client_timeout: float) -> Any:
        try:
            return method(*arguments, headers=self._headers, client_timeout=client_timeout)
        except InferenceServerException as error:
            raise NotReadyError(f"the server refused {method.__name__}: {error.message()}") from error
