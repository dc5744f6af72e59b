"""RepositoryApi: what the server has loaded, and having it load more, over gRPC with the key that guards it.

Not over HTTP, which has no TLS to get right: a load holds the HTTP thread that takes it. Of 16 HTTP clients 8 waited
for a load of 12 s to end; none waited for one over gRPC.
"""

from types import TracebackType
from typing import Any

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from footfall.contract import GRPC_KEY_HEADER
from footfall.errors import InputError, NotReadyError
from footfall_serving.state import ServerState

LOAD_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 30.0


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
            raise NotReadyError(f"the server refused {method.__name__}: {first_line(error)}") from error


def first_line(error: InferenceServerException) -> str:
    """What the server says, without the Python stack of its stub that may follow."""
    return str(error.message()).strip().partition("\n")[0]


def _client(state: ServerState) -> grpcclient.InferenceServerClient:
    if state.tls_root is None:
        return grpcclient.InferenceServerClient(state.grpc_url)
    # The certificate names the shop's host, not the address that this machine reaches the server by.
    arguments = [("grpc.ssl_target_name_override", state.tls_name), ("grpc.max_receive_message_length", -1)]
    try:
        return grpcclient.InferenceServerClient(
            state.grpc_url, ssl=True, root_certificates=state.tls_root, channel_args=arguments
        )
    except OSError as error:
        raise InputError(f"the TLS root {state.tls_root} cannot be read: {error.strerror}") from error
