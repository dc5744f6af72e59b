"""Calls: what each method of a client asks of the server, written once for the sync and the async client.

A flow is a generator that yields the calls to make and is sent their answers, or is thrown the refusal of a request;
a client carries them out.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import uniform
from typing import Any, Literal, TypeVar

from footfall_client import _checks
from footfall_client._budget import RetryBudget
from footfall_client._codec import History, ServedModel, Tensors, decode, encode, version_of
from footfall_client._exceptions import (
    DeadlineExceeded,
    FootfallClientError,
    InvalidRequest,
    Overloaded,
    Unavailable,
)
from footfall_client._types import ModelState, Recommendation

Result = TypeVar("Result")
FIRST_DELAY_S = 0.05
LARGEST_DELAY_S = 2.0
SCORE_ATTEMPTS = 3


@dataclass(frozen=True)
class Tags:
    """What goes with a request beside its tensors. Raises InvalidRequest."""

    request_id: str | None = None
    traceparent: str | None = None

    def __post_init__(self) -> None:
        for name in ("request_id", "traceparent"):
            if getattr(self, name) is not None:
                getattr(_checks, name)(getattr(self, name))


NO_TAGS = Tags()


@dataclass(frozen=True)
class Call:
    """One method of tritonclient; `tensors` are those of an inference."""

    method: Literal["infer", "is_model_ready", "get_model_config", "get_model_repository_index"]
    tensors: Tensors = ()
    tags: Tags = NO_TAGS


Flow = Generator[Call, Any, Result]


class Calls:
    """The flows. They remember nothing of the served model, as a swap may change all of it."""

    def recommend(
        self,
        history: History,
        k: int | None,
        candidates: Sequence[str] | None,
        exclude_seen: bool,
        user: str | None,
        now: datetime | int | None,
        tags: Tags = NO_TAGS,
    ) -> Flow[Recommendation]:
        tensors = encode(history, k, candidates, exclude_seen, user, now)
        return decode((yield Call("infer", tensors, tags)))

    def score(
        self,
        history: History,
        candidates: Sequence[str],
        user: str | None,
        now: datetime | int | None,
        tags: Tags = NO_TAGS,
    ) -> Flow[dict[str, float | None]]:
        """In parts no longer than the server's longest list; again if a swap came between two parts.

        All parts are of one instant: this machine's clock where `now` is None.
        """
        now = time.time_ns() // 1_000_000 if now is None else now
        history = _checks.as_list("history", history)  # sent with every part
        candidates = list(dict.fromkeys(_checks.ids("candidates", candidates)))
        for _ in range(SCORE_ATTEMPTS):
            served = yield from self._served_model()
            scores: dict[str, float | None] = dict.fromkeys(candidates)
            versions = set()
            try:
                for part in _parts(candidates, served.max_top_k):
                    tensors = encode(history, len(part), part, exclude_seen=False, user=user, now=now)
                    answer = yield Call("infer", tensors, tags)
                    versions.add(version_of(answer))
                    scores |= {item.id: item.score for item in decode(answer).items}
            except InvalidRequest:
                if (yield from self._served_model()) == served:
                    raise
                continue  # a swap came, to a version with another longest list
            if len(versions) <= 1:
                return scores
        raise Unavailable("versions changed during every attempt to score all candidates by one")

    def ready(self) -> Flow[bool]:
        return bool((yield Call("is_model_ready")))

    def models(self) -> Flow[tuple[ModelState, ...]]:
        rows = yield Call("get_model_repository_index")
        return tuple(ModelState(row["name"], row.get("version", ""), row.get("state", "")) for row in rows)

    def _served_model(self) -> Flow[ServedModel]:
        return ServedModel.of((yield Call("get_model_config")))


def _parts(candidates: list[str], size: int) -> list[list[str]]:
    return [candidates[start : start + size] for start in range(0, len(candidates), size)]


@dataclass
class Attempts:
    """When to try a call again: only where an error is transient, and only within the deadline and the budget."""

    timeout: float
    retries: int
    budget: RetryBudget
    _tried: int = 0
    _began: float = field(default_factory=time.monotonic)

    def remaining(self) -> float:
        """Seconds left. Raises DeadlineExceeded where there are none."""
        left = self.timeout - (time.monotonic() - self._began)
        if left <= 0:
            raise DeadlineExceeded(f"no answer within {self.timeout:g} s")
        return left

    def delay_after(self, error: FootfallClientError) -> float:
        """Seconds to wait before the next attempt: exponential, with jitter. Raises `error` where there is none."""
        delay: float = min(FIRST_DELAY_S * 2**self._tried, LARGEST_DELAY_S) * uniform(0.5, 1.0)
        self._tried += 1
        in_time = delay < self.timeout - (time.monotonic() - self._began)
        affordable = not isinstance(error, Overloaded) or self.budget.refused()
        if not error.transient or self._tried > self.retries or not in_time or not affordable:
            raise error
        return delay
