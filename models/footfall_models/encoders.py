"""Encoders: the layers a SequenceModel is built of, softmax attention or HSTU."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from footfall_kernels.attention.rules import AttentionRules
from footfall_models.config import EncoderName, ModelConfig
from footfall_models.contexts import Context, Heads

TIME_BUCKETS = 32
"""Bit lengths of an int32: gaps of 0 s, 1 s, 2 to 3 s, ... up to 68 years."""


class SoftmaxLayer(nn.Module):
    """A transformer's block: pre-norm self-attention and feed-forward, both residual."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        width = config.width
        self.layer, self.num_heads = layer, config.num_heads
        self.rules = AttentionRules("softmax", (width // config.num_heads) ** -0.5)
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, context: Context) -> Tensor:
        query, key, value = split_heads(self.query_key_value(self.attention_norm(tokens)), 3, self.num_heads)
        mixed = context.attend(self.layer, Heads(query, key, value, self.rules)).flatten(-2)
        tokens = tokens + self.dropout(self.attention_out(mixed))
        output: Tensor = tokens + self.dropout(self.feed_forward(tokens))
        return output


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
        self.position_bias = nn.Parameter(torch.zeros(config.num_heads, position_buckets(config.max_length)))
        self.time_bias = nn.Parameter(torch.zeros(config.num_heads, TIME_BUCKETS))
        self.mixed_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, context: Context) -> Tensor:
        projected = functional.silu(self.gate_value_query_key(self.norm(tokens)))
        gate, value, query, key = split_heads(projected, 4, self.num_heads)
        tables = (table.float() for table in (self.position_bias, self.time_bias))
        mixed = context.attend(self.layer, Heads(query, key, value, self.rules, *tables))
        gated = self.mixed_norm(mixed.flatten(-2)) * gate.flatten(-2)
        output: Tensor = tokens + self.dropout(self.out(gated))
        return output


LAYERS: dict[EncoderName, type[SoftmaxLayer] | type[HstuLayer]] = {"softmax": SoftmaxLayer, "hstu": HstuLayer}


def split_heads(projected: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """[..., parts * width] -> `parts` views [..., heads, head_dim]."""
    return projected.view(*projected.shape[:-1], parts, num_heads, -1).unbind(-3)


def position_buckets(max_length: int) -> int:
    """Bit lengths of the distances 0 to max_length - 1."""
    return max((max_length - 1).bit_length() + 1, 2)
