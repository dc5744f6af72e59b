"""Encoders that do not attend: they show what the seams are for, and are nobody's to train with."""

from torch import Tensor, nn

from footfall_models.config import ModelConfig
from footfall_models.encoders.encoder import Encoder
from footfall_models.layouts.layout import Layout


class RecurrentLayer(nn.Module):
    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__()
        self.number, self.width = number, config.width
        self.cell = nn.GRUCell(config.width, config.width)

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        return tokens + layout.scan(self.number, self.cell, tokens, self.width)


class RecurrentEncoder(Encoder):
    sees = "past"
    keeps = "state"

    def layer(self, config: ModelConfig, number: int) -> RecurrentLayer:
        return RecurrentLayer(config, number)


class ConvolutionalLayer(nn.Module):
    """Of this event and the one 2 ** number before it."""

    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__()
        self.distance = 2**number
        self.here, self.earlier = (nn.Linear(config.width, config.width) for _ in range(2))

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        mixed = self.here(tokens) + self.earlier(layout.shift(tokens, self.distance))
        return tokens + nn.functional.relu(mixed)


class ConvolutionalEncoder(Encoder):
    sees = "past"
    keeps = "nothing"

    def layer(self, config: ModelConfig, number: int) -> ConvolutionalLayer:
        return ConvolutionalLayer(config, number)


class BothSidesLayer(nn.Module):
    """Of this event and those 2 ** number before and behind it."""

    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__()
        self.distance = 2**number
        self.parts = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(3))

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        around = (layout.shift(tokens, by * self.distance) for by in (-1, 0, 1))
        mixed = [part(shifted) for part, shifted in zip(self.parts, around, strict=True)]
        return tokens + nn.functional.relu(mixed[0] + mixed[1] + mixed[2])


class BothSidesEncoder(Encoder):
    sees = "both sides"
    keeps = "nothing"

    def layer(self, config: ModelConfig, number: int) -> BothSidesLayer:
        return BothSidesLayer(config, number)


OTHERS = {
    "recurrent": "other_encoders:RecurrentEncoder",
    "convolutional": "other_encoders:ConvolutionalEncoder",
    "both sides": "other_encoders:BothSidesEncoder",
}
