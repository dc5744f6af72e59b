"""Fused: how ONNX Runtime reads histories for a softmax encoder, in few operators and with less arithmetic.

Of 10 events most of a run was the cost of so many small operators; of more, the last layer's keys and values: its one
query needs neither, as q.(K n) = (K'q).n for each token n, and the mean of V n is V of the mean of n.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from footfall_models.encoders.softmax import SoftmaxEncoder, SoftmaxLayer
from footfall_models.graph import RankerGraph
from footfall_models.layouts.padded import PaddedLayout
from footfall_models.model import SCORE_SCALE, SHORTEST_STATE

MULTI_HEAD_ATTENTION = "com.microsoft::MultiHeadAttention"


def fused_reading(graph: RankerGraph) -> "FusedReading | None":
    """None where the graph's model is another than FusedReading knows."""
    model = graph.model
    known = type(model.blocks) is SoftmaxEncoder and model.mask_embedding is None
    return FusedReading(graph) if known and not graph.has_own_table else None


class FusedReading(nn.Module):
    """RankerGraph.read of indices that the model's tables hold: engines look before they run it."""

    wait_table: Tensor

    def __init__(self, graph: RankerGraph) -> None:
        super().__init__()
        self.graph, model = graph, graph.model
        *layers, last = (layer for layer in model.blocks if isinstance(layer, SoftmaxLayer))
        self.layers = nn.ModuleList(map(FusedLayer, layers))
        self.norm, self.last = last.attention_norm, FusedLastLayer(last)
        wait = model.wait_embedding.weight.detach()
        self.register_buffer("wait_table", torch.where(model.wait_is_known.unsqueeze(1), wait, wait[:1]))

    def forward(
        self,
        item: Tensor,
        action: Tensor,
        gap: Tensor,
        wait: Tensor,
        time: Tensor,
        next_time: Tensor,
        length: Tensor,
    ) -> tuple[Tensor, ...]:
        """As RankerGraph.read."""
        model = self.graph.model
        layout = PaddedLayout(torch.stack([time, next_time], dim=-1), length, last_only=True)
        tokens = model.tokens_in(layout, item, action, gap)
        for layer in self.layers:
            tokens = layer(tokens)
        last = (length - 1).clamp(min=0).long()
        waits = embedding(wait.gather(1, last).squeeze(1), self.wait_table)
        state = self.last(_picked(tokens, last), self.norm(tokens), last, length.squeeze(1))
        empty = length == 0
        return (*self.graph.describe(_stretched(model.final_norm(state + waits)), empty), empty)


class FusedLayer(nn.Module):
    """A SoftmaxLayer of every token [users, length, width]."""

    def __init__(self, layer: SoftmaxLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tokens: Tensor) -> Tensor:
        layer, heads = self.layer, self.layer.num_heads
        projected = layer.query_key_value(layer.attention_norm(tokens))
        # The Attention of com.microsoft, one operator with the projection, took 5.5 ms of 4 histories of 200 where
        # product and this take 2.3; its SkipLayerNormalization 1.36 where sum and LayerNormalization take 0.7.
        mixed = _operator(
            "Attention", projected.split(tokens.shape[2], dim=2), tokens,
            q_num_heads=heads, kv_num_heads=heads, is_causal=1, scale=layer.rules.scale,
        )  # fmt: skip
        tokens = tokens + layer.attention_out(mixed)
        fed: Tensor = tokens + layer.feed_forward(tokens)
        return fed


class FusedLastLayer(nn.Module):
    """A SoftmaxLayer of each history's last token alone."""

    look: Tensor
    look_bias: Tensor
    gather: Tensor
    gather_bias: Tensor

    def __init__(self, layer: SoftmaxLayer) -> None:
        super().__init__()
        self.num_heads, self.feed_forward = layer.num_heads, layer.feed_forward
        projection, out = layer.query_key_value, layer.attention_out
        width, heads = out.in_features, layer.num_heads
        query, key, value = projection.weight.detach().double().view(3, heads, -1, width)
        query_bias, _, value_bias = projection.bias.detach().double().view(3, heads, -1)
        merge = out.weight.detach().double().view(width, heads, -1)
        # A key's bias adds the same to all scores of a query, which the softmax takes away.
        look = torch.einsum("hdi,hdo->iho", query, key) * layer.rules.scale
        look_bias = torch.einsum("hd,hdo->ho", query_bias, key) * layer.rules.scale
        gather = torch.einsum("hdi,ohd->hio", value, merge)
        gather_bias = out.bias.detach() + torch.einsum("hd,ohd->o", value_bias, merge)
        self.register_buffer("look", look.reshape(width, -1).float())
        self.register_buffer("look_bias", look_bias.flatten().float())
        self.register_buffer("gather", gather.reshape(-1, width).float())
        self.register_buffer("gather_bias", gather_bias.float())

    def forward(self, token: Tensor, normed: Tensor, last: Tensor, length: Tensor) -> Tensor:
        """token [users, width], normed [users, length, width], last int64 [users, 1], length int32 [users] ->
        [users, width].
        """
        users, width = token.shape
        asked = torch.addmm(self.look_bias, _picked(normed, last), self.look)
        asked = asked.view(users, self.num_heads, width)  # a head's query as if one of many of one head
        found = _operator(
            MULTI_HEAD_ATTENTION,
            (asked, normed, normed, None, length),
            asked,
            version=1,
            num_heads=1,
            scale=1.0,
        )
        token = token + torch.addmm(self.gather_bias, found.reshape(users, -1), self.gather)
        fed: Tensor = token + self.feed_forward(token)
        return fed


def _picked(tokens: Tensor, place: Tensor) -> Tensor:
    """[users, length, width], place int64 [users, 1] -> [users, width]."""
    return _operator("GatherND", (tokens, place), tokens[:, 0], batch_dims=1)


def _stretched(state: Tensor) -> Tensor:
    """[users, width], to the length SCORE_SCALE."""
    width = state.shape[1]
    scale, epsilon = torch.full((width,), SCORE_SCALE * width**-0.5), SHORTEST_STATE**2 / width
    return _operator("RMSNormalization", (state, scale), state, epsilon=epsilon)


def _operator(
    name: str, inputs: Sequence[Tensor | None], like: Tensor, version: int | None = None, **attributes: Any
) -> Tensor:
    """An operator of ONNX, or of the runtime's own in a version; it gives a tensor of the shape of `like`."""
    return torch.onnx.ops.symbolic(
        name, inputs, attributes, dtype=like.dtype, shape=like.shape, version=version
    )
