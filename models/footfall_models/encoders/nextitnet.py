"""NextitnetEncoder: causal convolutions with holes (Yuan et al., arXiv 1808.05163)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from footfall_models.config import ModelConfig
from footfall_models.encoders.encoder import Encoder
from footfall_models.layouts.layout import Layout

KERNEL = 3
"""Events that one convolution reads."""
FARTHEST = 4
"""Distances between them: 1 and 2 in the first layer, 4 and 1 in the second, and so on."""


class NextitnetLayer(nn.Module):
    """A residual block (Yuan et al., arXiv 1808.05163, figure 3b): two convolutions, the second over events twice as
    far apart, each normalised and rectified."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.distances = tuple(distance_of(2 * layer + half) for half in range(2))
        self.convolutions = nn.ModuleList(
            nn.Linear(KERNEL * config.width, config.width) for _ in self.distances
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in self.distances)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        mixed = tokens
        for convolution, norm, distance in zip(self.convolutions, self.norms, self.distances, strict=True):
            read = [mixed, *(layout.shift(mixed, back * distance) for back in range(1, KERNEL))]
            mixed = functional.relu(norm(convolution(torch.cat(read, dim=-1))))
        output: Tensor = tokens + self.dropout(mixed)
        return output


class NextitnetEncoder(Encoder):
    sees = "past"
    keeps = "nothing"
    layer = NextitnetLayer


def distance_of(convolution: int) -> int:
    """1, 2, 4, 1, 2, 4, ..."""
    return 1 << convolution % FARTHEST.bit_length()
