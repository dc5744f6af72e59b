"""The TensorRT in use: `tensorrt` where it is installed, otherwise `tensorrt_rtx`, which has the same API."""

import importlib
import importlib.util
from types import ModuleType

from footfall.errors import NotReadyError

PACKAGES = ("tensorrt", "tensorrt_rtx")


def tensorrt_library() -> ModuleType:
    """Raises NotReadyError where neither package is installed."""
    for package in PACKAGES:
        if importlib.util.find_spec(package):
            return importlib.import_module(package)
    raise NotReadyError("neither tensorrt nor tensorrt_rtx is installed; pip install tensorrt_rtx")
