"""Step: what the models of the ensemble have in common, in the Python backend's interface."""

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from footfall.contract import RANKER, Tensor
from footfall.errors import InputError
from footfall_engines.version import Version
from footfall_serving.busy import Busy
from footfall_serving.steps import byte_tensors
from footfall_serving.steps.counters import Counters

byte_tensors.use()


class Step:
    """A model of the server; `version` is the version folder beside it with the same number."""

    version: Version
    num_instances: int
    """Processes of this version."""

    def initialize(self, args: dict[str, str]) -> None:
        repository = Path(args["model_repository"]).parent
        self.version = Version.open(repository / RANKER / args["model_version"])
        self.num_instances = sum(
            group["count"] for group in json.loads(args["model_config"])["instance_group"]
        )
        self.counters, self._busy = Counters(self.version.number), Busy()
        self.start()

    def start(self) -> None:
        """Load what the step needs; called once."""

    def finalize(self) -> None:
        self.counters.close()
        self._busy.close()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Whatever is wrong with a request, its own answer tells, and no other's."""
        with self._busy:
            return self._execute(requests)

    def _execute(self, requests: Sequence[Any]) -> list[Any]:
        responses: list[Any] = []
        asked: list[Any] = []
        for request in requests:
            try:
                asked.append(self.ask(request))
                responses.append(None)
            except Exception as error:
                responses.append(failure(error))
        answers = iter(self._answer_all(asked))
        return [next(answers) if response is None else response for response in responses]

    def ask(self, request: Any) -> Any:
        """What a request asks of `answer`. Raises InputError for what the client got wrong."""
        raise AssertionError("every step reads its requests")

    def answer(self, asked: list[Any]) -> list[list[Any]]:
        """The output tensors of each, in one pass. Raises InputError for what the client got wrong."""
        raise AssertionError("every step answers")

    def _answer_all(self, asked: list[Any]) -> list[Any]:
        """In one pass; where that fails each by itself, so that who is to blame is told and no other."""
        if not asked:
            return []
        try:
            return [pb_utils.InferenceResponse(tensors) for tensors in self.answer(asked)]
        except Exception as error:
            if len(asked) == 1:
                return [failure(error)]
            return [response for one in asked for response in self._answer_all([one])]


def failure(error: Exception) -> Any:
    """The response to one request: an InputError as INVALID_ARGUMENT; whatever else is ours, and logged."""
    if isinstance(error, InputError):
        return _error(str(error), pb_utils.TritonError.INVALID_ARG)
    pb_utils.Logger.log_error("".join(traceback.format_exception(error)))
    return _error(f"the request failed: {type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)


def _error(sentence: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(sentence, code))


def read(request: Any, tensor: Tensor) -> NDArray[Any] | None:
    """The request's tensor with its batch axis, or None where it was left out."""
    found = pb_utils.get_input_tensor_by_name(request, tensor.name)
    if found is None:
        return None
    values: NDArray[Any] = found.as_numpy()
    return values


def read_row(request: Any, tensor: Tensor) -> NDArray[Any]:
    """The one row of a tensor that the step before writes. Raises InputError where there is another number."""
    values = read(request, tensor)
    if values is None or len(values) != 1:
        shape = None if values is None else list(values.shape)
        raise InputError(f"{tensor.name} has shape {shape}: a request is of one user, [1, n]")
    row: NDArray[Any] = values[0]
    return row


def write(tensor: Tensor, values: NDArray[Any]) -> Any:
    """An output tensor; `values` without batch axis."""
    return pb_utils.Tensor(tensor.name, np.ascontiguousarray(values[None]))
