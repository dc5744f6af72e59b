"""SequenceModel: an encoder over histories, packed or padded.

Of any family of footfall_models.registry; action and time-gap embeddings, a tied output, and heads that say more
of a state. Items are compared by direction alone:
states have the length SCORE_SCALE and, once trained, item rows the length 1.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from footfall.contract import NUM_GAPS, PADDING_INDEX
from footfall_kernels.implementations import ImplementationName
from footfall_models.appending import MASK_INDEX, append_packed, append_padded
from footfall_models.config import ModelConfig
from footfall_models.embedding.item_table import ItemRows
from footfall_models.encoders.encoder import Keeps
from footfall_models.heads.head import Head
from footfall_models.inputs import PackedInputs
from footfall_models.layouts.layout import Layout
from footfall_models.layouts.packed import PackedLayout
from footfall_models.layouts.padded import PaddedLayout
from footfall_models.registry import find_encoder, find_head

EMBEDDING_STD = 0.02
SCORE_SCALE = 20.0
"""Length of every state, so scores lie within +-20: the inverse temperature of the softmax."""
WAIT_DROPOUT = 0.15
"""Share of the waits that training hides, since a request may come without times."""


SHORTEST_STATE = 1e-3
"""A shorter one is not stretched: of a first event whose entries all fell to dropout nothing is left, and by torch's
1e-12 the gradient's norm overflowed there (at width 8 in the first batch of 2 of 3 seeds)."""


class SequenceModel(nn.Module):
    """Histories in, a hidden state after each event out; score of item i = hidden . item_table()[i]."""

    item_popularity: Tensor
    item_listed: Tensor
    wait_is_known: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.item_embedding = nn.Embedding(config.num_items + 1, config.width, padding_idx=PADDING_INDEX)
        self.action_embedding = nn.Embedding(config.num_actions + 1, config.width, padding_idx=PADDING_INDEX)
        self.position_embedding = nn.Embedding(config.max_tokens, config.width)
        self.gap_embedding = nn.Embedding(NUM_GAPS, config.width)
        self.wait_embedding = nn.Embedding(NUM_GAPS, config.width)
        # In place of an item's row; none of the item table's, as no item may be told to be the mask.
        self.mask_embedding = nn.Embedding(1, config.width) if config.appends == "mask" else None
        self.input_norm = nn.LayerNorm(config.width) if config.input_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = find_encoder(config.encoder)(config)
        self.final_norm = nn.LayerNorm(config.width)
        self.heads = nn.ModuleDict({name: find_head(name)(config) for name in config.heads})
        # Set by training: the list for an empty history, the items that may be listed, and the waits that it met.
        self.register_buffer("item_popularity", torch.zeros(config.num_items + 1))
        self.register_buffer("item_listed", torch.arange(config.num_items + 1) > PADDING_INDEX)
        self.register_buffer("wait_is_known", torch.arange(NUM_GAPS) > 0)
        self.apply(_initialise)
        nn.init.zeros_(self.wait_embedding.weight)

    def states(self, inputs: PackedInputs, implementation: ImplementationName) -> Tensor:
        """Packed: what comes next after each history, as a state [users, width]; of one without events it is none."""
        inputs = self.asked(inputs)
        layout = PackedLayout(inputs, implementation, self.config.max_tokens, last_only=True)
        return self.encode_in(layout, inputs.item, inputs.action, inputs.gap, inputs.wait)

    def states_padded(
        self, item: Tensor, action: Tensor, gap: Tensor, wait: Tensor, time: Tensor, length: Tensor
    ) -> Tensor:
        """The same of what `encode_padded` takes."""
        wait, time = self.known_waits(wait, time)
        events = (item, action, gap, wait, time)
        if self.mask_embedding is not None:
            events, length = append_padded(events, length)
        item, action, gap, wait, time = events
        layout = PaddedLayout(time, length, last_only=True)
        return self.encode_in(layout, item, action, gap, wait).squeeze(1)

    def asked(self, inputs: PackedInputs) -> PackedInputs:
        """`inputs` as they are when the model is asked: without waits it has not met, with what it appends."""
        wait, time = self.known_waits(inputs.wait, inputs.time)
        inputs = replace(inputs, wait=wait, time=time)
        return inputs if self.mask_embedding is None else append_packed(inputs)

    def encode(
        self,
        inputs: PackedInputs,
        implementation: ImplementationName,
        table: Tensor | None = None,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """Packed: float [events, width], or [users, width] of the last events only.

        table: the rows that inputs.item are indices of; None: item_table().
        """
        wait, time = self.known_waits(inputs.wait, inputs.time)
        layout = PackedLayout(
            replace(inputs, time=time), implementation, self.config.max_tokens, last_only=last_only
        )
        return self.encode_in(layout, inputs.item, inputs.action, inputs.gap, wait, table)

    def encode_padded(
        self, item: Tensor, action: Tensor, gap: Tensor, wait: Tensor, time: Tensor, length: Tensor
    ) -> Tensor:
        """Padded: int [users, longest] each, filled from the left, time [users, longest, 2], length int [users, 1] of
        each history -> float [users, longest, width]."""
        wait, time = self.known_waits(wait, time)
        return self.encode_in(PaddedLayout(time, length), item, action, gap, wait)

    def known_waits(self, wait: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """wait [...] and time [..., 2] of events, without what training has not met.

        So the answer to an old log's history, asked about today, is that of a request without `now`: the event's wait
        is unknown (0) and it looks back from its own time.
        """
        known = self.wait_is_known[wait]
        if self.training:
            known = known & (torch.rand_like(known, dtype=torch.float32) >= WAIT_DROPOUT)
        happened, looks_back = time.unbind(-1)
        return torch.where(known, wait, 0), torch.stack(
            [happened, torch.where(known, looks_back, happened)], -1
        )

    def encode_in(
        self,
        layout: Layout,
        item: Tensor,
        action: Tensor,
        gap: Tensor,
        wait: Tensor,
        table: Tensor | None = None,
    ) -> Tensor:
        """Indices [...] of events that lie as `layout` says -> the states that are asked for [..., width]; table as
        of `encode`."""
        tokens = self.dropout(self.tokens_in(layout, item, action, gap, table))
        tokens = self.blocks(tokens, layout)
        states = self.final_norm(tokens + self.wait_embedding(layout.narrow().pick(wait)))
        return functional.normalize(states, dim=-1, eps=SHORTEST_STATE) * SCORE_SCALE

    def tokens_in(
        self, layout: Layout, item: Tensor, action: Tensor, gap: Tensor, table: Tensor | None = None
    ) -> Tensor:
        """What the first layer takes, [..., width], of what `encode_in` takes."""
        others = (self.action_embedding, self.gap_embedding, self.position_embedding)
        table = self.item_table() if table is None else table
        tables = (table, *(embedding.weight for embedding in others))
        scale = math.sqrt(self.config.width)
        position = layout.positions(self.config.positions)
        if self.mask_embedding is None:
            tokens = layout.embed((item, action, gap, position), tables, scale)
        else:
            is_mask = item == MASK_INDEX
            item = item.masked_fill(is_mask, PADDING_INDEX)
            tokens = layout.embed((item, action, gap, position), tables, scale)
            tokens = tokens + is_mask.unsqueeze(-1) * (self.mask_embedding.weight * scale)
        normed: Tensor = self.input_norm(tokens)
        return normed

    @property
    def keeps(self) -> Keeps:
        """What a cache may keep of a history that grows."""
        return "nothing" if self.config.positions == "last" else self.blocks.keeps

    def item_table(self, rows: Tensor | None = None) -> Tensor:
        """The output table, tied to the input embedding: float [num_items + 1, width], row 0 is padding.

        rows int64 [items], in training: of these alone, each once, whose gradient is sparse; nothing else is touched.
        """
        if rows is None:
            table: Tensor = self.item_embedding.weight
            return table
        made = self._made_rows()
        unit = made[0]
        assert isinstance(unit, ItemRows)
        return unit.of(functional.embedding(rows, made.original, sparse=True), rows)

    def item_ids(self) -> nn.Parameter:
        """In training: the parameter [num_items + 1, width] that the rows of items are made of."""
        ids = self._made_rows().original
        assert isinstance(ids, nn.Parameter)
        return ids

    def for_training(self, read: Tensor, features: Iterable[nn.Module] = ()) -> None:
        """From here on items are read and scored by rows of length 1, of ids and `features` (see ItemRows).

        read bool [num_items + 1]: items that training reads, or has read. These are listed, and those that a feature
        describes; the row of any other stays random, but as long as the rest, so that it would be near somebody.
        """
        rows = ItemRows(features)
        described = rows.described(torch.arange(len(read), device=self.item_listed.device))
        self.item_listed.copy_(described | read.to(described.device))
        parametrize.register_parametrization(self.item_embedding, "weight", rows)

    def _made_rows(self) -> parametrize.ParametrizationList:
        made = self.item_embedding.get_submodule("parametrizations.weight")
        assert isinstance(made, parametrize.ParametrizationList)
        return made

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
