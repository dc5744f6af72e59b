"""Implementations: what can carry out every operation here. Without torch, since commands name them in their help."""

from typing import Literal

ImplementationName = Literal["reference", "triton"]
"""Plain torch, or the Triton kernels, which need an NVIDIA GPU."""
