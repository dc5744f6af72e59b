"""Checks of what callers pass, before any launch: one sentence each, with the offending value."""

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor

from footfall.errors import InputError, check_choice
from footfall_kernels.implementations import ImplementationName
from footfall_kernels.launch import interpreted

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int32, torch.int64)
HEAD_DIMS = (32, 64, 128)
MAX_WIDTH = 256
"""Of a row of a table that a kernel multiplies by: it is held whole."""


def check_implementation(implementation: str, *tensors: Tensor) -> None:
    """Raises InputError for an unknown name, and for "triton" on tensors that no kernel can reach."""
    check_choice("implementation", implementation, get_args(ImplementationName))
    for tensor in tensors:
        if implementation == "triton" and tensor.device.type != "cuda" and not interpreted():
            raise InputError(
                f"implementation 'triton' needs tensors on a GPU and got one on {tensor.device}; on a CPU use"
                " 'reference', or the interpreter (TRITON_INTERPRET=1)"
            )


def check_width(name: str, tensor: Tensor, implementation: str) -> None:
    """Raises InputError for rows wider than the kernels hold."""
    if implementation == "triton" and tensor.shape[1] > MAX_WIDTH:
        raise InputError(f"{name} is {tensor.shape[1]} wide, implementation 'triton' takes up to {MAX_WIDTH}")


def check_head_dim(head_dim: int, implementation: str) -> None:
    """Raises InputError for heads of a width that no attention kernel was written for."""
    if implementation == "triton" and head_dim not in HEAD_DIMS:
        raise InputError(f"head_dim is {head_dim}; there are kernels for {', '.join(map(str, HEAD_DIMS))}")


def check_tensor(
    name: str,
    tensor: Tensor,
    shape: Sequence[int | None],
    dtypes: Collection[torch.dtype],
    like: Tensor | None = None,
) -> None:
    """`shape` has None where any length will do; `like` is a tensor whose device it must share."""
    if tensor.dim() != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, tensor.shape, strict=True)
    ):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise InputError(f"{name} has shape {list(tensor.shape)}, expected [{wanted}]")
    if tensor.dtype not in dtypes:
        wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise InputError(f"{name} is {str(tensor.dtype).removeprefix('torch.')}, expected {wanted}")
    if like is not None and tensor.device != like.device:
        raise InputError(f"{name} is on {tensor.device}, the other tensors on {like.device}")


def check_offsets(offsets: Tensor, total: int, max_length: int) -> None:
    """Offsets [sequences + 1] start at 0, ascend by at most max_length and end at `total`; waits for a GPU."""
    values = offsets.tolist()
    if not values or values[0] != 0:
        raise InputError(f"offsets start with {values[:1]}, expected 0")
    for place, (before, after) in enumerate(pairwise(values)):
        if after < before:
            raise InputError(f"offsets do not ascend: {before} at place {place} is followed by {after}")
        if after - before > max_length:
            raise InputError(f"sequence {place} has {after - before} events, max_length is {max_length}")
    if values[-1] != total:
        raise InputError(f"offsets end at {values[-1]}, the packed tensors have {total} rows")
