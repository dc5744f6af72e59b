"""Gru4recEncoder: gated recurrent units along each history (Hidasi et al., arXiv 1511.06939)."""

from torch import Tensor, nn

from footfall_models.config import ModelConfig
from footfall_models.encoders.encoder import Encoder
from footfall_models.layouts.layout import Layout


class Gru4recLayer(nn.Module):
    """One recurrent layer and its dropout; of a history that grows, the state after its last event is enough."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.width = layer, config.width
        self.cell = nn.GRUCell(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        states: Tensor = self.dropout(layout.scan(self.layer, self.cell, tokens, self.width))
        return states


class Gru4recEncoder(Encoder):
    sees = "past"
    keeps = "state"
    layer = Gru4recLayer
