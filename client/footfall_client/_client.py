"""Client: the blocking client."""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from footfall_client import _settings
from footfall_client._budget import RetryBudget
from footfall_client._calls import Attempts, Call, Calls, Flow, Tags
from footfall_client._codec import History
from footfall_client._connection import Connection
from footfall_client._exceptions import FootfallClientError, InvalidRequest, translate
from footfall_client._settings import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, Settings
from footfall_client._types import ModelState, Recommendation

Result = TypeVar("Result")


class Client:
    """A blocking client, for any number of threads; use it as a context manager or with `close`.

    After a fork of the process, both go on with it; over gRPC, the parent's calls must have ended before the fork.

    url: host:port of the server's gRPC or HTTP endpoint. timeout: seconds a method may take, retries included.
    retries: further attempts after growing pauses, only where the request was not taken: nobody was there, or too
    many wait. tls: True, or the PEM file of the root that signed the server's certificate. key: of the repository
    API, which `models` needs. headers: sent with every request, as a proxy's API key. certificate: PEM files of a
    certificate and its key, that a server or proxy with mutual TLS asks for.

        with Client("127.0.0.1:8001") as client:
            client.recommend(["item 1", Event("item 2", "cart")], k=10).items
    """

    def __init__(
        self,
        url: str,
        protocol: _settings.Protocol = "grpc",
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        tls: bool | str | Path = False,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        certificate: tuple[str | Path, str | Path] | None = None,
    ) -> None:
        self._settings = Settings(url, protocol, timeout, retries, tls, key, headers or {}, certificate)
        self._connection = Connection(self._settings, asynchronous=False)
        self._calls = Calls()
        self._budget = RetryBudget()

    def recommend(
        self,
        history: History,
        k: int | None = None,
        candidates: Sequence[str] | None = None,
        exclude_seen: bool = True,
        user: str | None = None,
        now: datetime | int | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> Recommendation:
        """The next items, best first, and the probability of each next action.

        history: events oldest first; an item id stands for an Event of it. candidates: rank only these.
        k: how many items at most; None: the default, which a version of a small catalogue cuts. Fewer come back where
        fewer are left that were not seen, and none where all were.
        user: any name for who asks; the server may then compute only what is new of a returning user's history.
        now: when the request is made, a datetime or epoch milliseconds; None: the server's clock. How long ago the
        last event was tells the model what comes next, so ask an old log's history as of its own time.
        request_id: what the server's access log and traces call it, as errors do. traceparent: W3C's, of the caller's
        span, which those of the server then belong to.
        Raises InvalidRequest, DeadlineExceeded, Unavailable, ServerError.
        """
        tags = Tags(request_id, traceparent)
        return self._run(self._calls.recommend(history, k, candidates, exclude_seen, user, now, tags))

    def score(
        self,
        history: History,
        candidates: Sequence[str],
        user: str | None = None,
        now: datetime | int | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> dict[str, float | None]:
        """The score of every candidate, in their order; None for one that the model does not list: it is not in
        the catalogue, or training never read it.

        now: as of `recommend`; None: this machine's clock.
        """
        tags = Tags(request_id, traceparent)
        return self._run(self._calls.score(history, candidates, user, now, tags))

    def ready(self) -> bool:
        """Whether the server takes requests; False too where nobody answers."""
        try:
            return self._run(self._calls.ready())
        except FootfallClientError:
            return False

    def models(self) -> tuple[ModelState, ...]:
        """The models of the server's repository. Needs the key: raises Unauthorized without."""
        return self._run(self._calls.models())

    def close(self) -> None:
        self._connection.client.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, flow: Flow[Result]) -> Result:
        attempts = Attempts(self._settings.timeout, self._settings.retries, self._budget)
        try:
            call = next(flow)
            while True:
                try:
                    answer = self._make(call, attempts)
                except InvalidRequest as refusal:
                    call = flow.throw(refusal)
                else:
                    call = flow.send(answer)
        except StopIteration as stop:
            result: Result = stop.value
            return result

    def _make(self, call: Call, attempts: Attempts) -> Any:
        while True:
            try:
                timeout = attempts.remaining()
                answer = self._connection.plain(call, self._connection.invoke(call, timeout))
            except self._connection.errors as error:
                translated = translate(error, self._settings.url, call.tags.request_id)
                try:
                    time.sleep(attempts.delay_after(translated))
                except FootfallClientError as final:
                    raise final from error
            else:
                self._budget.answered()
                return answer
