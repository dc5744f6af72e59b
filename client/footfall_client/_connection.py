"""Connection: four clients (gRPC or HTTP, blocking or asyncio) behind one method; three are tritonclient's own."""

import importlib
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from footfall.contract import ENSEMBLE
from footfall_client._calls import Call
from footfall_client._codec import Tensors
from footfall_client._settings import Settings

MODULES = {
    ("grpc", False): "tritonclient.grpc",
    ("grpc", True): "tritonclient.grpc.aio",
    ("http", False): "footfall_client._http",
    ("http", True): "tritonclient.http.aio",
}
TRANSPORT_ERRORS = {
    ("grpc", False): ("grpc", "RpcError"),
    ("grpc", True): ("grpc", "RpcError"),
    ("http", False): ("http.client", "HTTPException"),
    ("http", True): ("aiohttp", "ClientError"),
}
"""What the library beneath each client raises besides OSError."""
RETURNS_MESSAGE = {"get_model_config": "config", "get_model_repository_index": "models"}
"""Methods that over gRPC return a message, and its field that HTTP returns alone."""


MESSAGES_OF_ANY_SIZE = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
"""As tritonclient has it where it is given no arguments."""
SOON_CONNECTED_AGAIN = ("grpc.max_reconnect_backoff_ms", 1000)
"""To a server that was away; by default gRPC then waits longer each time, up to 2 minutes."""
NO_PROXY = ("grpc.enable_http_proxy", 0)
"""gRPC alone reads http_proxy and its kin, and asks the proxy even for this machine, which it cannot reach."""


class Connection:
    """Opens nothing until the first call. tritonclient is imported here, for the protocol in use alone."""

    def __init__(self, settings: Settings, *, asynchronous: bool) -> None:
        module = importlib.import_module(MODULES[settings.protocol, asynchronous])
        library, name = TRANSPORT_ERRORS[settings.protocol, asynchronous]
        beneath: type[Exception] = getattr(importlib.import_module(library), name)
        self.errors = (InferenceServerException, OSError, beneath)
        self._grpc = settings.protocol == "grpc"
        self._takes_timeout = self._grpc or not asynchronous
        self._input = module.InferInput
        self._headers = settings.all_headers()
        options = _tls_options(settings) if settings.tls else {}
        if self._grpc:
            local = [NO_PROXY] if settings.is_loopback else []
            options["channel_args"] = [*MESSAGES_OF_ANY_SIZE, SOON_CONNECTED_AGAIN, *local]
        self.client = module.InferenceServerClient(settings.url, **options)

    def invoke(self, call: Call, timeout: float) -> Any:
        """The answer, of an asyncio client an awaitable of it. Raises `errors`; anything else is a bug."""
        options: dict[str, Any] = {"headers": dict(self._headers)}  # tritonclient writes in it
        if self._takes_timeout:
            options["client_timeout"] = timeout
        if self._grpc and call.method in RETURNS_MESSAGE:
            options["as_json"] = True
        method = getattr(self.client, call.method)
        if call.method == "infer":
            if call.tags.request_id:
                options["request_id"] = call.tags.request_id
            if call.tags.traceparent:
                options["headers"]["traceparent"] = call.tags.traceparent
            return method(ENSEMBLE, self._inputs(call.tensors), **options)
        if call.method == "get_model_repository_index":
            return method(**options)
        return method(ENSEMBLE, **options)

    def plain(self, call: Call, answer: Any) -> Any:
        """The same answer whatever the protocol."""
        if self._grpc and call.method in RETURNS_MESSAGE:
            return answer.get(RETURNS_MESSAGE[call.method], [])
        return answer

    def _inputs(self, tensors: Tensors) -> list[Any]:
        inputs = []
        for tensor, values in tensors:
            sent = self._input(tensor.name, list(values.shape), tensor.data_type)
            sent.set_data_from_numpy(np.ascontiguousarray(values))
            inputs.append(sent)
        return inputs


def _tls_options(settings: Settings) -> dict[str, Any]:
    """gRPC and HTTP are told of the root in another way."""
    options: dict[str, Any] = {"ssl": True}
    if settings.protocol == "grpc":
        options["root_certificates"] = settings.root_certificates
        if settings.certificate:
            options["certificate_chain"], options["private_key"] = map(str, settings.certificate)
    else:
        options["ssl_context"] = settings.tls_context()
    return options
