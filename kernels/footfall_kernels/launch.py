"""Launch: what every Triton kernel here needs to know of where it runs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

INTERPRETER_ARCH = 0
_INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")
"""As Triton reads it where a kernel is defined. Not asked of Triton, without which the references run too."""


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors (TRITON_INTERPRET=1 before this is imported)."""
    return _INTERPRETED


def upcast(dtype: torch.dtype) -> bool:
    """Whether operands of a dot go to fp32 first: the interpreter's bf16 dot is garbage (triton#11584), and numpy
    has no fp8."""
    return interpreted() and dtype in (torch.bfloat16, torch.float8_e4m3fn)


def architecture(device: torch.device) -> int:
    """90 for sm_90; INTERPRETER_ARCH where kernels are interpreted."""
    if interpreted():
        return INTERPRETER_ARCH
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@dataclass(frozen=True)
class Variant:
    """One shipped compilation of a kernel, as its launcher would ask for it; compiled ahead of time by `facts`.

    signature: Triton type of every runtime argument; constants: value of every constexpr; aligned: arguments that are
    multiples of 16. scores: attention scores (or logits) that one program computes in one turn of its inner loop.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    aligned: tuple[str, ...]
    num_warps: int
    num_stages: int
    scores: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
