"""Comparison: what the live version and the one that is tried answer to the same requests."""

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor

from footfall.contract import ANEW_USER, CANDIDATE_ENSEMBLE, ENSEMBLE, RECOMMENDED_ID, SCORE, USER_ID
from footfall.errors import NotReadyError
from footfall_serving.repository_api import CALL_TIMEOUT_S

KEPT = 10_000
"""Of the last comparisons."""
Listed = tuple[list[bytes], NDArray[np.float32]]
"""Ids and scores of an answer."""
REFUSED = grpc.StatusCode.INVALID_ARGUMENT
"""What the caller got wrong, whatever version he asks."""


class Pair:
    """Asks both versions the same, in turn first, by the server's own socket."""

    def __init__(self, grpc_file: str) -> None:
        self._channel = grpc.insecure_channel(
            f"unix:{grpc_file}",
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)],
        )
        self._infer = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer
        self._turn = 0

    def close(self) -> None:
        self._channel.close()

    def ask(self, message: Any, tally: "Tally") -> None:
        """Raises NotReadyError where the live version fails."""
        computed_anew(message)
        self._turn += 1
        names = (ENSEMBLE, CANDIDATE_ENSEMBLE) if self._turn % 2 else (CANDIDATE_ENSEMBLE, ENSEMBLE)
        found = {name: self._answer(name, message) for name in names}
        live, tried = found[ENSEMBLE], found[CANDIDATE_ENSEMBLE]
        if isinstance(live, grpc.StatusCode):
            if live is not REFUSED:
                raise NotReadyError(f"the live version fails with {live.name}")
            return
        tally.requests += 1
        if isinstance(tried, grpc.StatusCode):
            tally.errors += 1
        else:
            tally.add(live[0], tried[0], live[1], tried[1])

    def _answer(self, name: str, message: Any) -> tuple[Listed, float] | grpc.StatusCode:
        """And the seconds it took."""
        message.model_name = name
        began = time.perf_counter()
        try:
            answer = self._infer(message, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        took = time.perf_counter() - began
        raw = {
            tensor.name: content
            for tensor, content in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }
        ids = deserialize_bytes_tensor(raw[RECOMMENDED_ID.name]).tolist()
        return (ids, np.frombuffer(raw[SCORE.name], np.float32)), took


def computed_anew(message: Any) -> None:
    """Have the request be computed: the live version has just answered the caller's, and may have kept that."""
    raw = len(ANEW_USER).to_bytes(4, "little") + ANEW_USER
    for place, tensor in enumerate(message.inputs):
        if tensor.name == USER_ID.name:
            if message.raw_input_contents:
                message.raw_input_contents[place] = raw
            else:
                tensor.contents.bytes_contents[:] = [ANEW_USER]
            return
    tensor = message.inputs.add(name=USER_ID.name, datatype=USER_ID.data_type, shape=[1, 1])
    if message.raw_input_contents:
        message.raw_input_contents.append(raw)
    else:
        tensor.contents.bytes_contents.append(ANEW_USER)


@dataclass
class Tally:
    """Of one stage: requests that the live version answered, how many of these the other failed, and of the rest how
    much of each list is in both, the scores and the seconds.
    """

    requests: int = 0
    errors: int = 0
    _overlaps: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    _scores: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Of each answer with a list: the mean of the live version's and of the other's."""
    _spreads: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    _took: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, live: Listed, tried: Listed, live_s: float, tried_s: float) -> None:
        self._took.append((live_s, tried_s))
        common = len(set(live[0]) & set(tried[0])) / len(live[0]) if live[0] else float(not tried[0])
        self._overlaps.append(common)
        if len(live[1]) and len(tried[1]):
            self._scores.append((float(live[1].mean()), float(tried[1].mean())))
            self._spreads.append(float(live[1].std()))

    @property
    def error_share(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    @property
    def overlap(self) -> float:
        """Of the lists, on average."""
        return float(np.mean(self._overlaps)) if self._overlaps else 1.0

    @property
    def drift(self) -> float:
        """How far the scores' mean has moved, in standard deviations: of the live version's means over requests, or,
        where that is more, of the scores within a list.
        """
        if not self._scores:
            return 0.0
        live, tried = np.array(self._scores).T
        spread = max(float(live.std()), float(np.mean(self._spreads)))
        moved = abs(float(tried.mean() - live.mean()))
        return moved / spread if spread else (math.inf if moved else 0.0)

    @property
    def latency_ratio(self) -> float:
        """Median seconds of the version that is tried to the live one's, asked one after the other."""
        if not self._took:
            return 1.0
        live, tried = np.median(np.array(self._took), axis=0)
        return float(tried / live)

    def facts(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "overlap": round(self.overlap, 3),
            "drift": round(self.drift, 3),
            "latency_ratio": round(self.latency_ratio, 2),
        }
