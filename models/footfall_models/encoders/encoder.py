"""Encoder: what every family of layers says of itself."""

from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional

from footfall_models.config import ModelConfig
from footfall_models.layouts.layout import Layout

Sees = Literal["past", "both sides"]
"""What the state after an event depends on: the event and the past alone, or the whole history."""
Keeps = Literal["keys and values", "state", "nothing"]
"""What of a past lets an encoder go on with new events alone: each layer's keys and values of every event, each
layer's state after the last one, or nothing, so that a grown history is encoded anew."""


class Encoder(nn.ModuleList):
    """Layers that mix the tokens of each history, one after the other. state_width: of a state that is kept.

    layer: what makes one, of the config and its number from 0; it takes tokens [..., width] and a Layout -> tokens.
    narrows: whether a layer computes the states alone that its layout picks, and not all of them.
    """

    layer: ClassVar[type[nn.Module]]
    sees: ClassVar[Sees]
    keeps: ClassVar[Keeps]
    narrows: ClassVar[bool] = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(self.layer(config, number) for number in range(config.num_layers))
        self.state_width = config.width

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        """The states that are asked for: [..., width] of the tokens that the narrowed layout picks."""
        *layers, last = self
        for layer in layers:
            tokens = layer(tokens, layout)
        narrow = layout.narrow()
        states: Tensor = last(tokens, narrow) if self.narrows else narrow.pick(last(tokens, layout))
        return states


def project(
    linear: nn.Linear, tokens: Tensor, layout: Layout, picked: tuple[bool, ...], num_heads: int
) -> tuple[Tensor, ...]:
    """Parts of `linear`, one an entry of `picked`, as [..., heads, head_dim]; where that is true, of the tokens alone
    that `layout` picks.
    """
    few = layout.pick(tokens)
    if few is tokens:
        return split_heads(linear(tokens), len(picked), num_heads)
    width = linear.out_features // len(picked)
    parts: list[Tensor] = []
    for number, is_picked in enumerate(picked):
        rows = slice(number * width, (number + 1) * width)
        part = functional.linear(few if is_picked else tokens, linear.weight[rows], linear.bias[rows])
        parts += split_heads(part, 1, num_heads)
    return tuple(parts)


def split_heads(projected: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """[..., parts * width] -> `parts` views [..., heads, head_dim]."""
    return projected.view(*projected.shape[:-1], parts, num_heads, -1).unbind(-3)
