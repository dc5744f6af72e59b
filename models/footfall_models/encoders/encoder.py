"""Encoder: what every family of layers says of itself."""

from typing import ClassVar, Literal

from torch import Tensor, nn

from footfall_models.config import ModelConfig
from footfall_models.layouts.layout import Layout

Sees = Literal["past", "both sides"]
"""What the state after an event depends on: the event and the past alone, or the whole history."""
Keeps = Literal["keys and values", "state", "nothing"]
"""What of a past lets an encoder go on with new events alone: each layer's keys and values of every event, each
layer's state after the last one, or nothing, so that a grown history is encoded anew."""


class Encoder(nn.ModuleList):
    """Layers that mix the tokens of each history, one after the other. state_width: of a state that is kept."""

    sees: ClassVar[Sees]
    keeps: ClassVar[Keeps]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(self.layer(config, number) for number in range(config.num_layers))
        self.state_width = config.width

    def layer(self, config: ModelConfig, number: int) -> nn.Module:
        """The layer of that number, from 0: tokens [..., width] and a Layout -> tokens."""
        raise NotImplementedError

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        for layer in self:
            tokens = layer(tokens, layout)
        return tokens


def split_heads(projected: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """[..., parts * width] -> `parts` views [..., heads, head_dim]."""
    return projected.view(*projected.shape[:-1], parts, num_heads, -1).unbind(-3)
