"""Canary: a version answers its recorded requests, step by step, before it takes traffic. Also its warm-up."""

from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from footfall.contract import (
    ACTION,
    ITEM_ID,
    NOW,
    RECOMMENDED_ID,
    SCORE,
    TIMESTAMP,
    Tensor,
)
from footfall.errors import InputError
from footfall_engines.model_configs import step_inputs, step_outputs
from footfall_engines.version import Version
from footfall_serving.repository_api import first_line

CALL_TIMEOUT_S = 30.0
Tensors = dict[str, Any]


def replay(client: grpcclient.InferenceServerClient, version: Version) -> None:
    """Raises InputError where a step of `version` fails or an answer is not the recorded one."""
    canary = version.canary
    for place, request in enumerate(canary["requests"]):
        answer = _ask(client, version, request)
        got = [id_.decode() for id_ in answer[RECOMMENDED_ID.name][0]]
        worst = _difference(answer[SCORE.name][0], np.array(request[SCORE.name], dtype=np.float32))
        agreement = _agreement(got, request[RECOMMENDED_ID.name])
        if agreement < canary["agreement"] or not worst <= canary["tolerance"]:
            raise InputError(
                f"version {version.number} fails its canary: of request {place} it lists {agreement:.0%} of what"
                f" was recorded, scores differ by up to {worst:.3g}; it takes no traffic"
            )


def _agreement(got: list[str], expected: list[str]) -> float:
    """The share of `expected` that was listed; of a user who has seen the catalogue nothing is to be."""
    return len(set(got) & set(expected)) / len(expected) if expected else float(not got)


def _difference(scores: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference of two lists, both best first; infinite where one is longer."""
    if len(scores) != len(expected):
        return float("inf")
    return float(np.abs(scores - expected).max(initial=0.0))


def _ask(client: grpcclient.InferenceServerClient, version: Version, request: dict[str, Any]) -> Tensors:
    """Run a request through the version's own steps in turn; the list is as long as is recorded, the default."""
    tensors: Tensors = {
        ITEM_ID.name: np.array([[id_.encode() for id_ in request[ITEM_ID.name]]], dtype=np.object_),
        ACTION.name: np.array([[name.encode() for name in request[ACTION.name]]], dtype=np.object_),
        TIMESTAMP.name: np.array([request[TIMESTAMP.name]], dtype=np.int64),
        NOW.name: np.array([[request[NOW.name]]], dtype=np.int64),
    }
    for step in version.steps:
        inputs = step_inputs(step, version.backend)
        outputs = step_outputs(step, version.backend, version.heads)
        sent = [_input(tensor, tensors[tensor.name]) for tensor in inputs if tensor.name in tensors]
        try:
            answer = client.infer(
                step, sent, model_version=str(version.number), client_timeout=CALL_TIMEOUT_S
            )
        except InferenceServerException as error:
            raise InputError(
                f"{step} version {version.number} fails its canary: {first_line(error)}"
            ) from error
        tensors |= {tensor.name: answer.as_numpy(tensor.name) for tensor in outputs}
    return tensors


def _input(tensor: Tensor, values: Any) -> grpcclient.InferInput:
    sent = grpcclient.InferInput(tensor.name, list(values.shape), tensor.data_type)
    sent.set_data_from_numpy(values)
    return sent
