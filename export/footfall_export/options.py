"""ExportOptions: how `footfall export` compiles a checkpoint. Light, so that the command's help is too."""

from dataclasses import dataclass, fields
from typing import Annotated, get_args

from footfall.contract import DEFAULT_MAX_TOP_K
from footfall.errors import InputError, check_choice
from footfall.flag import Flag
from footfall_engines.engine import ENGINES
from footfall_engines.version import PRECISIONS
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import check_device_name

BACKENDS = ("python", "tensorrt")
TORCH_ONLY = ("device", "implementation", "cache_mib")
MAX_CACHE_MIB = 1 << 20
MAX_TOP_K = 3840
"""TensorRT's limit of a top-k layer."""


@dataclass(frozen=True)
class ExportOptions:
    """implementation None: the device's (see footfall_models.device)."""

    engine: Annotated[str, Flag("onnxruntime, tensorrt or torch.")] = "onnxruntime"
    precision: Annotated[str, Flag("fp32, fp16 or bf16; onnxruntime takes fp32.")] = "fp32"
    max_top_k: Annotated[int, Flag("Longest list a request may ask for.")] = DEFAULT_MAX_TOP_K
    backend: Annotated[
        str, Flag("python, or tensorrt: the server runs the plan itself, in NVIDIA's container.")
    ] = "python"
    device: Annotated[str, Flag("Where the torch engine is to run: cpu, cuda or cuda:N.")] = "cpu"
    implementation: Annotated[
        ImplementationName | None,
        Flag("Of the torch engine's kernels; by default triton on cuda, reference on cpu."),
    ] = None
    cache_mib: Annotated[int, Flag("What the torch engine keeps of returning users, in MiB; 0: nothing.")] = (
        256
    )

    def __post_init__(self) -> None:
        for name, known in (("engine", ENGINES), ("precision", PRECISIONS), ("backend", BACKENDS)):
            check_choice(name, getattr(self, name), known)
        if not 1 <= self.max_top_k <= MAX_TOP_K:
            raise InputError(f"max_top_k is {self.max_top_k}, it must be in 1..{MAX_TOP_K}")
        if self.backend == "tensorrt" and self.engine != "tensorrt":
            raise InputError(f"backend tensorrt runs a TensorRT plan, not a {self.engine} engine")
        if self.engine == "onnxruntime" and self.precision != "fp32":
            # Tried on a CPU: fp16 was no faster and the file hardly smaller; bf16 has no kernels.
            raise InputError(
                f"ONNX Runtime gains nothing from {self.precision} on a CPU; use fp32, or engine torch or tensorrt"
            )
        check_device_name(self.device)
        if self.implementation is not None:
            check_choice("implementation", self.implementation, get_args(ImplementationName))
        if not 0 <= self.cache_mib <= MAX_CACHE_MIB:
            raise InputError(f"cache_mib is {self.cache_mib}, it must be in 0..{MAX_CACHE_MIB}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in TORCH_ONLY and value != field.default and self.engine != "torch":
                raise InputError(f"{field.name} {value} is for the torch engine, not for {self.engine}")
