"""Installation of NVIDIA Triton Inference Server: `python -m footfall_serving.install`.

PyPI's nvidia-pytriton carries the real server with its Python backend; only that is used, none of its Python.
"""

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from footfall.errors import NotReadyError
from footfall.folder import written_aside

PACKAGE = "nvidia-pytriton==0.7.0"
SERVER_VERSION = "2.51"
SERVER = "tritonserver"
STUB = "triton_python_backend_stub"
MAX_NUMPY = 1
"""Its major version: BYTES tensors end the stub with a segmentation fault under numpy 2."""


@dataclass(frozen=True)
class ServerHome:
    """The folder the server is installed in."""

    folder: Path

    @property
    def binary(self) -> Path:
        return self.folder / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        return self.folder / "pytriton" / "tritonserver" / "backends"

    @property
    def environment(self) -> dict[str, str]:
        """What the server needs to find its libraries, and its stubs this interpreter and its packages."""
        libraries = [str(self.folder / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
        inherited = os.environ.get("LD_LIBRARY_PATH")
        return {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *([inherited] if inherited else [])]),
            # The stub asks the first python3 on PATH where packages lie; it does not read PYTHONPATH.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }


def server_home() -> ServerHome:
    """Raises NotReadyError where the server is not installed in this environment, or would crash in it."""
    numpy = version("numpy")
    if int(numpy.partition(".")[0]) > MAX_NUMPY:
        raise NotReadyError(
            f"the server's Python stub crashes with numpy {numpy}; run: pip install 'numpy<{MAX_NUMPY + 1}'"
        )
    home = ServerHome(Path(sys.prefix) / "tritonserver")
    if not home.binary.is_file():
        raise NotReadyError(
            f"the server is not installed in {sys.prefix}; run: python -m footfall_serving.install"
        )
    return home


def install() -> ServerHome:
    """Download the server into this environment, unless it is there, and give its backend this Python's stub."""
    home = ServerHome(Path(sys.prefix) / "tritonserver")
    if home.binary.is_file():
        return home
    with written_aside(home.folder) as folder:
        _download(folder)
        _add_stub(ServerHome(folder))
    return home


def _download(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run = subprocess.run([*pip, "--no-deps", "--target", str(folder), PACKAGE], check=False)
    if run.returncode:
        raise NotReadyError(f"pip could not install {PACKAGE}; its message is above")


def _add_stub(home: ServerHome) -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home.backends.parent / "python_backend_stubs" / python / STUB
    if not stub.is_file():
        known = ", ".join(sorted(path.name for path in stub.parent.parent.iterdir()))
        raise NotReadyError(f"{PACKAGE} has no stub for Python {python}; it has {known}")
    shutil.copy2(stub, home.backends / "python" / STUB)
    for binary in (home.binary, home.backends / "python" / STUB):
        binary.chmod(binary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    print(f"NVIDIA Triton Inference Server {SERVER_VERSION} in {install().folder}")
