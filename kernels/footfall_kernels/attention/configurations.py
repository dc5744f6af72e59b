"""Configurations: tile shapes, warps and pipeline stages of the attention kernels, frozen per chip."""

from dataclasses import dataclass

import torch

from footfall_kernels.launch import INTERPRETER_ARCH

FIRST_FP8_ARCH = 89
FIRST_TMA_ARCH = 90
FIRST_TMEM_ARCH = 100


@dataclass(frozen=True)
class Configuration:
    """Queries and keys of one tile, and how the kernel is launched; `tma`: tiles are loaded through descriptors.

    part: keys (of the kernel by keys: queries) taken at once of a tile that is not uniform, for want of registers.
    max_registers: a thread's, which the compiler keeps to where it would choose a few more.
    """

    queries: int
    keys: int
    num_warps: int
    num_stages: int
    tma: bool
    part: int
    max_registers: int | None = None

    def launch_options(self) -> dict[str, int | None]:
        return {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "maxnreg": self.max_registers,
        }


def reduces_by_tma(arch: int) -> bool:
    """Whether query gradients are added tile by tile through a descriptor; the interpreter has no such addition."""
    return arch >= FIRST_TMA_ARCH


def adds_query_gradients(arch: int, head_dim: int) -> bool:
    """Whether the kernel by keys adds query gradients too. Else a pass by queries does: before sm_90 wide heads would
    spill otherwise, and both passes take 51 to 69 instructions a score, where the one took 58 to 66."""
    return head_dim < 128 or arch >= FIRST_TMA_ARCH or arch == INTERPRETER_ARCH


def forward_configuration(arch: int, head_dim: int, dtype: torch.dtype) -> Configuration:
    """Of `architecture(device)`, or any other to compile ahead of time. Also of the backward pass by queries."""
    tma = arch >= FIRST_TMA_ARCH
    if arch == INTERPRETER_ARCH:  # small, so that short test sequences have tiles of every class
        return Configuration(32, 16, 1, 1, True, part=8)
    if (
        dtype == torch.float32
    ):  # without tensor cores a product lives in registers: what is larger spills kilobytes
        return Configuration(16, 32, 8, 1, tma, part=16)
    if head_dim < 128:
        # 128 registers a thread: two programs a multiprocessor. Elsewhere that few spill.
        hopper = FIRST_TMA_ARCH <= arch < FIRST_TMEM_ARCH
        return Configuration(128, 64, 8, 3, tma, part=32, max_registers=128 if hopper else None)
    return Configuration(128, 64, 8, 2, tma, part=32) if tma else Configuration(128, 32, 8, 3, tma, part=16)


def backward_configuration(arch: int, head_dim: int, dtype: torch.dtype) -> Configuration:
    """Of the backward pass by keys; as forward_configuration."""
    tma = arch >= FIRST_TMA_ARCH
    if arch == INTERPRETER_ARCH:
        return Configuration(16, 32, 1, 1, True, part=8)
    if dtype == torch.float32:
        return Configuration(32, 32, 8, 1, tma, part=16)
    if not tma and head_dim == 128:
        return Configuration(64, 64, 8, 2, tma, part=16)
    if not tma:
        return Configuration(64, 128, 8, 3, tma, part=16)
    # With parts of 32 wide heads spill up to 216 bytes on sm_90.
    part = 16 if head_dim == 128 and arch < FIRST_TMEM_ARCH else 32
    return Configuration(64, 128, 8, 2, tma, part)
