"""Device: where torch computes, and by which implementation of the kernels."""

import torch

from footfall.errors import NotReadyError
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import check_device_name


def find_device(name: str) -> torch.device:
    """Raises InputError where there is no device of that name, NotReadyError where this machine lacks it."""
    check_device_name(name)
    device = torch.device(name)
    num_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        there = f"has {num_gpus}, counted from 0" if num_gpus else "offers torch none; use cpu"
        raise NotReadyError(f"device {name} asks for a GPU and this machine {there}")
    return device


def implementation_on(device: torch.device, wanted: ImplementationName | None = None) -> ImplementationName:
    """What was wanted, or else the Triton kernels on a GPU and plain torch on a CPU."""
    return wanted or ("triton" if device.type == "cuda" else "reference")
