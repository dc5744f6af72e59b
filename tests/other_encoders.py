"""An encoder that sees both sides: it shows what the seam is for, and is nobody's to train with."""

from torch import Tensor, nn

from footfall_models.config import ModelConfig
from footfall_models.encoders.encoder import Encoder
from footfall_models.layouts.layout import Layout


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
    layer = BothSidesLayer


OTHERS = {"both sides": "other_encoders:BothSidesEncoder"}
