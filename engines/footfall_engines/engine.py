"""Engine: the one interface of every runtime that ranks, and the choice among them.

Importing this module imports no runtime, so that the server's Python stub starts fast.
"""

from collections.abc import Callable
from typing import Protocol

from footfall.errors import InputError
from footfall_engines.batch import Batch, Scores
from footfall_engines.version import Version


class Engine(Protocol):
    """A checkpoint compiled for a runtime."""

    @property
    def cached_events(self) -> int:
        """Events of histories scored so far that were known from a request before, and not computed again."""

    def score(self, batch: Batch) -> Scores: ...


def load_engine(version: Version) -> Engine:
    """The version's engine, by the runtime its manifest names; never another one.

    Raises InputError where the name is unknown, NotReadyError where its runtime cannot run here.
    """
    try:
        load = ENGINES[version.engine]
    except KeyError:
        known = ", ".join(ENGINES)
        raise InputError(f"{version.folder} has engine {version.engine!r}; there are {known}") from None
    return load(version)


def _onnxruntime(version: Version) -> Engine:
    from footfall_engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(version)


def _tensorrt(version: Version) -> Engine:
    from footfall_engines.tensorrt_engine import TensorRTEngine

    return TensorRTEngine(version)


def _torch(version: Version) -> Engine:
    from footfall_engines.torch_engine import TorchEngine

    return TorchEngine.load(version)


ENGINES: dict[str, Callable[[Version], Engine]] = {
    "onnxruntime": _onnxruntime,
    "tensorrt": _tensorrt,
    "torch": _torch,
}
