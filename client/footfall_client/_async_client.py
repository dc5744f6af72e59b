"""AsyncClient: the same client for asyncio."""

import asyncio
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


class AsyncClient:
    """As Client, for asyncio; make it inside the running loop. One may serve any number of tasks.

    async with AsyncClient("127.0.0.1:8001") as client:
        answer = await client.recommend(["item 1"], k=10)
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
        self._connection = Connection(self._settings, asynchronous=True)
        self._calls = Calls()
        self._budget = RetryBudget()

    async def recommend(
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
        """See Client.recommend."""
        tags = Tags(request_id, traceparent)
        return await self._run(self._calls.recommend(history, k, candidates, exclude_seen, user, now, tags))

    async def score(
        self,
        history: History,
        candidates: Sequence[str],
        user: str | None = None,
        now: datetime | int | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> dict[str, float | None]:
        """See Client.score."""
        tags = Tags(request_id, traceparent)
        return await self._run(self._calls.score(history, candidates, user, now, tags))

    async def ready(self) -> bool:
        """See Client.ready."""
        try:
            return await self._run(self._calls.ready())
        except FootfallClientError:
            return False

    async def models(self) -> tuple[ModelState, ...]:
        """See Client.models."""
        return await self._run(self._calls.models())

    async def close(self) -> None:
        await self._connection.client.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, flow: Flow[Result]) -> Result:
        attempts = Attempts(self._settings.timeout, self._settings.retries, self._budget)
        try:
            call = next(flow)
            while True:
                try:
                    answer = await self._make(call, attempts)
                except InvalidRequest as refusal:
                    call = flow.throw(refusal)
                else:
                    call = flow.send(answer)
        except StopIteration as stop:
            result: Result = stop.value
            return result

    async def _make(self, call: Call, attempts: Attempts) -> Any:
        while True:
            try:
                timeout = attempts.remaining()
                answer = await asyncio.wait_for(self._connection.invoke(call, timeout), timeout)
                answer = self._connection.plain(call, answer)
            except self._connection.errors as error:
                translated = translate(error, self._settings.url, call.tags.request_id)
                try:
                    await asyncio.sleep(attempts.delay_after(translated))
                except FootfallClientError as final:
                    raise final from error
            else:
                self._budget.answered()
                return answer
