"""What can go wrong between a client and the server.

FootfallClientError
  +-- InvalidRequest      the request is malformed; the text is the sentence the server (or the client) found
  +-- Unauthorized        the key is missing or wrong
  +-- DeadlineExceeded    no answer within the timeout
  +-- Unavailable         nobody answers at the address, or the server takes no requests; tried again first
  |     +-- ModelNotReady the server is there, the model is not; tried again where the server says UNAVAILABLE
  |     +-- Overloaded    as many inferences are under way as the server takes; tried again
  +-- ServerError         the server failed on the request
"""

from typing import Any

from tritonclient.utils import InferenceServerException

from footfall.contract import OVERLOADED
from footfall.errors import FootfallError


class FootfallClientError(FootfallError):
    """Base of every error this package raises."""

    transient = False
    """Whether a further attempt may end better: nobody was there, or the server said UNAVAILABLE."""


class InvalidRequest(FootfallClientError):
    """The request cannot be answered as it stands."""


class Unauthorized(FootfallClientError):
    """The call needs a key that was not given, or is another."""


class DeadlineExceeded(FootfallClientError):
    """The timeout passed."""


class Unavailable(FootfallClientError):
    """Nobody answers, or the server takes no requests at the moment."""

    transient = True


class ModelNotReady(Unavailable):
    """The server is there, the model is not."""

    def __init__(self, message: str, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class Overloaded(Unavailable):
    """As many inferences are under way as the server takes, or a proxy has counted too many requests of the caller.

    Nothing was done of this one.
    """


class ServerError(FootfallClientError):
    """The server failed."""


PROXY_REFUSED = "status: 429"
"""What gRPC says of a proxy's HTTP status."""
UNAVAILABLE = ("StatusCode.UNAVAILABLE", "503")
# Status of gRPC or HTTP -> the exception it becomes.
BY_STATUS: dict[str, type[FootfallClientError]] = {
    "StatusCode.INVALID_ARGUMENT": InvalidRequest,
    "400": InvalidRequest,
    "413": InvalidRequest,
    "StatusCode.DEADLINE_EXCEEDED": DeadlineExceeded,
    "499": DeadlineExceeded,
    "StatusCode.UNAVAILABLE": Unavailable,
    "503": Unavailable,
    "StatusCode.NOT_FOUND": ModelNotReady,
    "404": ModelNotReady,
    "429": Overloaded,
    "401": Unauthorized,
    "StatusCode.UNAUTHENTICATED": Unauthorized,
    "StatusCode.PERMISSION_DENIED": Unauthorized,
    "403": Unauthorized,
}


def translate(error: Exception, url: str, request_id: str | None = None) -> FootfallClientError:
    """The exception for what tritonclient or its transport raised (Connection.errors); names the request."""
    found = _translated(error, url)
    if request_id:
        found.args = (f"{found} (request {request_id})",)
    return found


def _translated(error: Exception, url: str) -> FootfallClientError:
    """Most specific first."""
    if isinstance(error, InferenceServerException):
        return _of_status(error, url)
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(f"no answer from {url} in time")
    return Unavailable(f"nobody answers at {url}: {str(error) or type(error).__name__}")


def _of_status(error: InferenceServerException, url: str) -> FootfallClientError:
    status, message = str(error.status()), _plain(error.message())
    if "is restricted" in message:  # the server's word for a missing key, under several statuses
        return Unauthorized(f"{url} wants another key for this call: {message}")
    if "is not ready" in message or "unknown model" in message:
        return ModelNotReady(f"{url}: {message}", transient=status in UNAVAILABLE)
    refused = OVERLOADED in message or PROXY_REFUSED in message
    if refused and status in UNAVAILABLE:
        return Overloaded(f"{url}: {message}")
    if status == "StatusCode.DEADLINE_EXCEEDED" or "Deadline Exceeded" in message:
        return DeadlineExceeded(f"no answer from {url} in time")
    if status == "StatusCode.UNAVAILABLE":
        return Unavailable(f"nobody answers at {url}: {message}")
    return BY_STATUS.get(status, ServerError)(message)


def _plain(message: Any) -> str:
    """The sentence without what the server puts before it."""
    text = str(message).strip()
    return text.partition("in ensemble 'footfall', ")[2] or text
