"""SoftmaxEncoder: a causal transformer, as in SASRec (Kang and McAuley, arXiv 1808.09781), with pre-norm blocks."""

from torch import Tensor, nn

from footfall_kernels.attention.rules import AttentionRules
from footfall_models.config import ModelConfig
from footfall_models.encoders.encoder import Encoder, project
from footfall_models.layouts.layout import Layout, QueryKeyValue


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
        inner = config.feed_forward * width
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        normed, picked = self.attention_norm(tokens), (True, False, False)
        query, key, value = project(self.query_key_value, normed, layout, picked, self.num_heads)
        mixed = layout.attend(self.layer, QueryKeyValue(query, key, value, self.rules)).flatten(-2)
        tokens = layout.pick(tokens) + self.dropout(self.attention_out(mixed))
        output: Tensor = tokens + self.dropout(self.feed_forward(tokens))
        return output


class SoftmaxEncoder(Encoder):
    sees = "past"
    keeps = "keys and values"
    narrows = True
    layer = SoftmaxLayer
