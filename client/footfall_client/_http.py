"""The blocking HTTP client: tritonclient's encoding over connections that any thread may use.

tritonclient.http's own connections are gevent's, and so of the thread that made them: asked from 16 threads, calls
waited until their deadline had passed.
"""

import json
import ssl as tls
from typing import Any

import tritonclient.http as codec
from tritonclient.http import InferInput
from tritonclient.utils import InferenceServerException

from footfall_client._pool import Answer, Pool

__all__ = ["InferInput", "InferenceServerClient"]

JSON_LENGTH = "Inference-Header-Content-Length"
OK = 200


class InferenceServerClient:
    """tritonclient's methods that Connection calls, by their names; `client_timeout` in seconds as over gRPC.

    Every one raises InferenceServerException with the server's status, or what Pool.call raises.
    """

    def __init__(self, url: str, ssl: bool = False, ssl_context: tls.SSLContext | None = None) -> None:
        self._pool = Pool(url, ssl_context if ssl else None)

    def infer(
        self,
        model: str,
        inputs: list[InferInput],
        headers: dict[str, str],
        client_timeout: float,
        request_id: str = "",
    ) -> codec.InferResult:
        body, json_length = codec.InferenceServerClient.generate_request_body(inputs, request_id=request_id)
        if json_length is not None:
            headers = {**headers, JSON_LENGTH: str(json_length)}
        answer = _whole(self._pool.call("POST", f"v2/models/{model}/infer", body, headers, client_timeout))
        json_length = answer.headers.get(JSON_LENGTH)
        return codec.InferenceServerClient.parse_response_body(
            answer.body, header_length=None if json_length is None else int(json_length)
        )

    def is_model_ready(self, model: str, headers: dict[str, str], client_timeout: float) -> bool:
        return self._pool.call("GET", f"v2/models/{model}/ready", b"", headers, client_timeout).status == OK

    def get_model_config(self, model: str, headers: dict[str, str], client_timeout: float) -> Any:
        path = f"v2/models/{model}/config"
        return json.loads(_whole(self._pool.call("GET", path, b"", headers, client_timeout)).body)

    def get_model_repository_index(self, headers: dict[str, str], client_timeout: float) -> Any:
        path = "v2/repository/index"
        return json.loads(_whole(self._pool.call("POST", path, b"", headers, client_timeout)).body)

    def close(self) -> None:
        self._pool.close()


def _whole(answer: Answer) -> Answer:
    """The answer, unless it is an error."""
    if answer.status == OK:
        return answer
    try:
        sentence = json.loads(answer.body)["error"]
    except (ValueError, KeyError, TypeError):  # of something before the server
        sentence = answer.body.decode(errors="replace") or "an answer without a word"
    raise InferenceServerException(sentence, status=str(answer.status))
