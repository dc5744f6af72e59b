"""BsarecEncoder: a low-pass filter over the sequence beside attention (Shin et al., arXiv 2312.10325)."""

import math

import torch
from torch import Tensor, nn

from footfall_kernels.attention.rules import AttentionRules
from footfall_models.config import ModelConfig
from footfall_models.encoders.encoder import Encoder, project
from footfall_models.layouts.layout import Layout, QueryKeyValue

FILTER_SHARE = 0.7
"""Of the filtered tokens in what a layer mixes; the rest are attention's. The paper's for Beauty."""
NUM_FREQUENCIES = 3
"""The lowest, the mean among them, that count as low. The paper's c of 5."""


class BsarecLayer(nn.Module):
    """BSARec (Shin et al., arXiv 2312.10325, eq. 8 to 13), with its norms behind each sum.

    The paper cuts the Fourier transform of a padded sequence of fixed length, which is a circular convolution: what
    one token gives another depends on their distance alone. Of that convolution this layer takes the side of the
    past. So nothing is padded, no transform is needed in a graph, and no state knows a later event: packed histories
    may tell after each event, as attention's do. The paper's filter also reads later tokens, which for the last
    token, the one that tells, are none; in all layers but the last the others differ from the paper's by that.
    """

    low_pass: Tensor

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        width, inner = config.width, config.feed_forward * config.width
        self.layer, self.num_heads = layer, config.num_heads
        self.rules = AttentionRules("softmax", (width // config.num_heads) ** -0.5)
        self.register_buffer("low_pass", low_pass(config.max_tokens), persistent=False)
        self.high_share = nn.Parameter(torch.randn(width))
        self.filter_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        here = layout.pick(tokens)
        low = layout.filter(tokens, self.low_pass)
        filtered = self.filter_norm(here + self.dropout(low + self.high_share.square() * (here - low)))
        picked = (True, False, False)
        query, key, value = project(self.query_key_value, tokens, layout, picked, self.num_heads)
        attended = layout.attend(self.layer, QueryKeyValue(query, key, value, self.rules)).flatten(-2)
        attended = self.attention_norm(here + self.dropout(self.attention_out(attended)))
        mixed = FILTER_SHARE * filtered + (1 - FILTER_SHARE) * attended
        output: Tensor = self.feed_forward_norm(mixed + self.dropout(self.feed_forward(mixed)))
        return output


class BsarecEncoder(Encoder):
    sees = "past"
    keeps = "nothing"
    narrows = True
    layer = BsarecLayer


def low_pass(length: int) -> Tensor:
    """What the lowest frequencies of `length` tokens leave, at a token, of the one at each distance from it: fp32
    [length]."""
    turn = torch.arange(length, dtype=torch.float64) * (2 * math.pi / length)
    left = torch.ones_like(turn)
    for number in range(1, min(NUM_FREQUENCIES, (length + 1) // 2)):
        left += 2 * (turn * number).cos()
    return (left / length).float()
