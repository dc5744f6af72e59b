"""Device: where torch computes."""

import torch

from footfall.errors import NotReadyError
from footfall_training.options import check_device_name


def find_device(name: str) -> torch.device:
    """Raises InputError where there is no device of that name, NotReadyError where this machine lacks it."""
    check_device_name(name)
    device = torch.device(name)
    num_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        there = f"has {num_gpus}, counted from 0" if num_gpus else "offers torch none; use cpu"
        raise NotReadyError(f"device {name} asks for a GPU and this machine {there}")
    return device
