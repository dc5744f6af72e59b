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


def library_version() -> str:
    """Such as "tensorrt_rtx 1.7.1.116": an engine runs with the very version that built it."""
    library = tensorrt_library()
    return f"{library.__name__} {library.__version__}"


def check_server_reads_its_plans() -> None:
    """Raises NotReadyError where the library in use is not the one inside the server's tensorrt backend."""
    library = tensorrt_library()
    if library.__name__ != PACKAGES[0]:
        raise NotReadyError(
            f"backend tensorrt needs the package {PACKAGES[0]} in the version of NVIDIA's container; the server"
            f" does not read the engines of {library_version()}, which run with backend python"
        )
