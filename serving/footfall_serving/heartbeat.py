"""Heartbeat: a real request to the ensemble, again and again, so that who hangs is told from who is busy."""

import contextlib
import time
from concurrent.futures import Future

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from footfall.contract import ANEW_USER, ENSEMBLE, ITEM_ID, MODEL_VERSION, USER_ID, Tensor
from footfall.errors import NotReadyError
from footfall_engines.version import Version
from footfall_serving.repository_api import RepositoryApi, first_line

DEADLINE_S = 4.0
"""Of one request."""
BUSY_S = 60.0
"""Who works for so long and answers nobody hangs too; a first request may compile kernels for some of it."""
WORKS = 0.05
"""Of the time one processor has: less than that, and the stubs wait."""


class Heartbeat:
    """Asks the server what the version's canary was asked, and keeps since when it answers nobody."""

    def __init__(self, api: RepositoryApi, version: Version) -> None:
        self._api = api
        history: list[str] = next((request[ITEM_ID.name] for request in version.canary["requests"]), [])
        self._inputs = [_texts(ITEM_ID, [id_.encode() for id_ in history]), _texts(USER_ID, [ANEW_USER])]
        self._asked: Future[int] | None = None
        self._num_answers = 0
        self._alive_at = self._looked_at = time.monotonic()
        self._worked_s = 0.0

    def ask(self, deadline_s: float = DEADLINE_S) -> int:
        """Ask once and wait for the number of the version that answers. Raises NotReadyError where none does."""
        return self.send(deadline_s).result()

    def send(self, deadline_s: float = DEADLINE_S) -> "Future[int]":
        """As `ask`, without waiting."""
        answer: Future[int] = Future()

        def receive(result: grpcclient.InferResult, error: InferenceServerException | None) -> None:
            if error is None:
                answer.set_result(int(result.as_numpy(MODEL_VERSION.name).item()))
            else:
                answer.set_exception(_failure(error, deadline_s))

        self._api.client.async_infer(ENSEMBLE, self._inputs, receive, client_timeout=deadline_s)
        return answer

    def is_alive(self) -> bool:
        """Whether there is an answer to it, or meanwhile to anybody."""
        self._has_answered_anybody()
        try:
            self.ask()
        except NotReadyError:
            time.sleep(1.0)  # a full queue says so at once
            return self._has_answered_anybody()
        return True

    def look(self, worked_s: float, patience_s: float) -> str | None:
        """What is wrong for longer than `patience_s`, or None; to be called every second or so.

        `worked_s` is the processor time that the stubs have had so far. An answer to anybody counts: under
        overload the request itself may wait too long, or find the queue full.
        """
        if time.monotonic() - self._looked_at > DEADLINE_S:  # this process itself was held up
            self._renew(worked_s)
        self._looked_at = time.monotonic()
        if self._asked is None:
            self._asked = self.send()
        if not self._asked.done():
            return None
        error, self._asked = self._asked.exception(), None
        if error is None or self._has_answered_anybody():
            self._renew(worked_s)
            return None
        silent_s = time.monotonic() - self._alive_at
        works = isinstance(error, OverloadError) and worked_s - self._worked_s > WORKS * silent_s
        return str(error) if silent_s > (BUSY_S if works else patience_s) else None

    def _renew(self, worked_s: float) -> None:
        self._alive_at = self._looked_at = time.monotonic()
        self._worked_s = worked_s

    def _has_answered_anybody(self) -> bool:
        """Since the last time this was asked."""
        before = self._num_answers
        with contextlib.suppress(NotReadyError):
            self._num_answers = self._api.count_answers(ENSEMBLE)
        return self._num_answers > before


class OverloadError(NotReadyError):
    """No answer in time, which may be for the work of others."""


def _texts(tensor: Tensor, texts: list[bytes]) -> grpcclient.InferInput:
    sent = grpcclient.InferInput(tensor.name, [1, len(texts)], tensor.data_type)
    sent.set_data_from_numpy(np.array([texts], dtype=np.object_))
    return sent


def _failure(error: InferenceServerException, deadline_s: float) -> NotReadyError:
    sentence = first_line(error)
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return OverloadError(f"gives no answer within {deadline_s:.0f} s")
    kind = OverloadError if "queue" in sentence else NotReadyError
    return kind(f"answers with an error: {sentence}")
