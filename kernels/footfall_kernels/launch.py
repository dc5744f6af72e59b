"""Launch: what every Triton kernel here needs to know of where it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

INTERPRETER_ARCH = 0


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors (TRITON_INTERPRET=1 before triton is imported)."""
    import triton  # not at import: the references run where there is no triton

    return bool(triton.knobs.runtime.interpret)


def upcast(dtype: torch.dtype) -> bool:
    """Whether operands of a dot go to fp32 first: the interpreter's bf16 dot is garbage (triton#11584)."""
    return interpreted() and dtype == torch.bfloat16


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
