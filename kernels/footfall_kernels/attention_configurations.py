"""Configurations: tile shapes, warps and pipeline stages of the attention kernels, frozen per chip."""

from dataclasses import dataclass

import torch

from footfall_kernels.launch import INTERPRETER_ARCH

FIRST_TMA_ARCH = 90


@dataclass(frozen=True)
class Configuration:
    """Queries and keys of one tile, and how the kernel is launched; `tma`: tiles are loaded through descriptors."""

    queries: int
    keys: int
    num_warps: int
    num_stages: int
    tma: bool


# Small, so that short test sequences have tiles of every class.
INTERPRETED = Configuration(32, 16, 1, 1, True)


def reduces_by_tma(arch: int) -> bool:
    """Whether query gradients are added tile by tile through a descriptor; the interpreter has no such addition."""
    return arch >= FIRST_TMA_ARCH


def forward_configuration(arch: int, head_dim: int, dtype: torch.dtype) -> Configuration:
    """Of `architecture(device)`, or any other to compile ahead of time."""
    if arch == INTERPRETER_ARCH:
        return INTERPRETED
    if dtype == torch.float32:
        return Configuration(64, 32, 4, 2, arch >= FIRST_TMA_ARCH)
    return Configuration(128, 64, 8, 2 if head_dim == 128 else 3, arch >= FIRST_TMA_ARCH)


def backward_configuration(arch: int, head_dim: int, dtype: torch.dtype) -> Configuration:
    """As forward_configuration."""
    if arch == INTERPRETER_ARCH:
        return Configuration(16, 32, 1, 1, True)
    if dtype == torch.float32:
        return Configuration(32, 32, 4, 1, arch >= FIRST_TMA_ARCH)
    return Configuration(
        32 if head_dim == 128 else 64, 128, 8, 1 if head_dim == 128 else 2, arch >= FIRST_TMA_ARCH
    )
