"""HstuEncoder: hierarchical sequential transduction units (Zhai et al., arXiv 2402.17152)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from footfall_kernels.attention.rules import AttentionRules
from footfall_models.config import ModelConfig
from footfall_models.encoders.encoder import Encoder, project
from footfall_models.layouts.layout import Layout, QueryKeyValue

TIME_BUCKETS = 32
"""Bit lengths of an int32: gaps of 0 s, 1 s, 2 to 3 s, ... up to 68 years."""


class HstuLayer(nn.Module):
    """HSTU (Zhai et al., arXiv 2402.17152, eq. 1 to 3): pointwise SiLU attention, gated, no feed-forward.

    Its attention is biased by how many events and how many seconds lie between two events.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        width = config.width
        self.layer, self.num_heads = layer, config.num_heads
        self.rules = AttentionRules("silu", (width // config.num_heads) ** -0.5, float(config.max_length))
        self.norm = nn.LayerNorm(width)
        self.gate_value_query_key = nn.Linear(width, 4 * width)
        self.position_bias = nn.Parameter(torch.zeros(config.num_heads, position_buckets(config.max_tokens)))
        self.time_bias = nn.Parameter(torch.zeros(config.num_heads, TIME_BUCKETS))
        self.mixed_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        normed, picked = self.norm(tokens), (True, False, True, False)
        parts = project(self.gate_value_query_key, normed, layout, picked, self.num_heads)
        gate, value, query, key = map(functional.silu, parts)
        tables = (table.float() for table in (self.position_bias, self.time_bias))
        mixed = layout.attend(self.layer, QueryKeyValue(query, key, value, self.rules, *tables))
        gated = self.mixed_norm(mixed.flatten(-2)) * gate.flatten(-2)
        output: Tensor = layout.pick(tokens) + self.dropout(self.out(gated))
        return output


class HstuEncoder(Encoder):
    sees = "past"
    keeps = "keys and values"
    narrows = True
    layer = HstuLayer


def position_buckets(max_tokens: int) -> int:
    """Bit lengths of the distances 0 to max_tokens - 1."""
    return max((max_tokens - 1).bit_length() + 1, 2)
