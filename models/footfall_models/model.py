"""SequenceModel: an encoder over histories, packed or padded.

Of any family of footfall_models.registry; action and time-gap embeddings, a tied output, and heads that say more
of a state. Items are compared by direction alone:
states have the length SCORE_SCALE and, once trained, item rows the length 1.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from footfall.contract import NUM_GAPS, PADDING_INDEX
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import ModelConfig
from footfall_models.embedding.item_table import ItemRows
from footfall_models.heads.head import Head
from footfall_models.inputs import PackedInputs
from footfall_models.layouts.layout import Layout
from footfall_models.layouts.packed import PackedLayout
from footfall_models.layouts.padded import PaddedLayout
from footfall_models.registry import find_encoder, find_head

EMBEDDING_STD = 0.02
SCORE_SCALE = 20.0
"""Length of every state, so scores lie within +-20: the inverse temperature of the softmax."""


SHORTEST_STATE = 1e-3
"""A shorter one is not stretched: of a first event whose entries all fell to dropout nothing is left, and by torch's
1e-12 the gradient's norm overflowed there (at width 8 in the first batch of 2 of 3 seeds)."""


class SequenceModel(nn.Module):
    """Histories in, a hidden state after each event out; score of item i = hidden . item_table()[i]."""

    item_popularity: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.item_embedding = nn.Embedding(config.num_items + 1, config.width, padding_idx=PADDING_INDEX)
        self.action_embedding = nn.Embedding(config.num_actions + 1, config.width, padding_idx=PADDING_INDEX)
        self.position_embedding = nn.Embedding(config.max_length, config.width)
        self.gap_embedding = nn.Embedding(NUM_GAPS, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = find_encoder(config.encoder)(config)
        self.final_norm = nn.LayerNorm(config.width)
        self.heads = nn.ModuleDict({name: find_head(name)(config) for name in config.heads})
        # Set after training: the list for an empty history.
        self.register_buffer("item_popularity", torch.zeros(config.num_items + 1))
        self.apply(_initialise)

    def encode(self, inputs: PackedInputs, implementation: ImplementationName) -> Tensor:
        """Packed: float [events, width]."""
        layout = PackedLayout(inputs, implementation, self.config.max_length)
        return self.encode_in(layout, inputs.item, inputs.action, inputs.gap, inputs.position)

    def encode_padded(self, item: Tensor, action: Tensor, gap: Tensor, time: Tensor) -> Tensor:
        """Padded from the left: int [users, length] each -> float [users, length, width]."""
        position = torch.arange(item.shape[1], device=item.device)
        return self.encode_in(PaddedLayout(time), item, action, gap, position)

    def encode_in(
        self, layout: Layout, item: Tensor, action: Tensor, gap: Tensor, position: Tensor
    ) -> Tensor:
        """Indices [...] of events that lie as `layout` says -> float [..., width]."""
        others = (self.action_embedding, self.gap_embedding, self.position_embedding)
        tables = (self.item_table(), *(embedding.weight for embedding in others))
        tokens = layout.embed((item, action, gap, position), tables, math.sqrt(self.config.width))
        tokens = self.dropout(tokens)
        tokens = self.blocks(tokens, layout)
        return functional.normalize(self.final_norm(tokens), dim=-1, eps=SHORTEST_STATE) * SCORE_SCALE

    def item_table(self) -> Tensor:
        """The output table, tied to the input embedding: float [num_items + 1, width], row 0 is padding."""
        table: Tensor = self.item_embedding.weight
        return table

    def for_training(self, features: Iterable[nn.Module] = ()) -> None:
        """From here on items are read and scored by rows of length 1, of ids and `features` (see ItemRows)."""
        parametrize.register_parametrization(self.item_embedding, "weight", ItemRows(features))

    def for_serving(self) -> None:
        """After training: the rows become the plain weights that checkpoints and engines know."""
        parametrize.remove_parametrizations(self.item_embedding, "weight", leave_parametrized=True)

    def head(self, name: str) -> Head:
        """One of config.heads."""
        head = self.heads[name]
        assert isinstance(head, Head)
        return head


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=EMBEDDING_STD)
        if module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx].detach())
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
