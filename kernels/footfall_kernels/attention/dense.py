"""Attention of one padded group by matrix products, and its gradients; some queries at a time, to bound memory."""

from dataclasses import dataclass

import torch
from torch import Tensor

from footfall_kernels.attention.group import Group
from footfall_kernels.attention.pairs import differentiate, look_up, weigh
from footfall_kernels.attention.rules import AttentionRules

CHUNK_SCORES = 1 << 18
"""Scores held at once: 1 MiB in fp32, about a core's cache."""
CHUNK_ROWS = 64
"""Queries of a sequence at once, where that is more: each chunk reads all keys and values before it."""


@dataclass(frozen=True)
class Dense:
    """What does not change with the chunk.

    table: of pair_table [heads or 1, cells]; time [total, 2], if it has a table. All tensors below are contiguous
    [heads * sequences, length, head_dim] in the dtype of the table.
    """

    group: Group
    rules: AttentionRules
    num_buckets: tuple[int, int]
    table: Tensor
    time: Tensor | None

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        for start, end in self._chunks(query):
            weight = weigh(self._scores(query, key, start, end), self.rules)
            output[:, start:end].baddbmm_(weight, value[:, :end], beta=0)
        return output

    def backward(
        self,
        output_gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        table_gradient: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value; adds the table's to table_gradient, fp64.

        output_gradient is 0 where there is no event. Of scores S, weights W and output O = W V:
        dV = W' dO, dW = dO V'; dS = W (dW - row sum of W dW) for softmax, dW silu'(S) / normaliser for silu;
        dQ = scale dS K, dK = scale dS' Q.
        """
        query_gradient, key_gradient, value_gradient = (torch.empty_like(query) for _ in "qkv")
        scale = self.rules.scale
        # The last chunk reaches every key: it sets (beta=0) what those before it add to (beta=1).
        for start, end in reversed(self._chunks(query)):
            beta = 0 if end == query.shape[1] else 1
            chunk, gradient = query[:, start:end], output_gradient[:, start:end]
            scores = self._scores(query, key, start, end)
            weight = weigh(scores, self.rules)
            value_gradient[:, :end].baddbmm_(weight.transpose(1, 2), gradient, beta=beta)
            weight_gradient = torch.bmm(gradient, value[:, :end].transpose(1, 2))
            score_gradient = differentiate(scores, weight, weight_gradient, self.rules)
            query_gradient[:, start:end].baddbmm_(score_gradient, key[:, :end], beta=0, alpha=scale)
            key_gradient[:, :end].baddbmm_(score_gradient.transpose(1, 2), chunk, beta=beta, alpha=scale)
            if table_gradient is not None:
                self._add_to_table(score_gradient, start, end, table_gradient)
        return query_gradient, key_gradient, value_gradient

    def _chunks(self, query: Tensor) -> list[tuple[int, int]]:
        """First row and the one behind the last."""
        batch, length, _ = query.shape
        rows = max(CHUNK_SCORES // (batch * length), CHUNK_ROWS)
        return [(start, min(start + rows, length)) for start in range(0, length, rows)]

    def _pairs(self, start: int, end: int) -> Tensor:
        return self.group.pairs(start, end, self.rules, self.num_buckets, self.time)

    def _scores(self, query: Tensor, key: Tensor, start: int, end: int) -> Tensor:
        """[heads * sequences, end - start, end]."""
        bias = look_up(self.table, self._pairs(start, end))
        heads = len(query) // len(self.group.slot)
        scores = bias.expand(heads, len(self.group.slot), -1, -1).contiguous().flatten(0, 1)
        return scores.baddbmm_(query[:, start:end], key[:, :end].transpose(1, 2), alpha=self.rules.scale)

    def _add_to_table(self, score_gradient: Tensor, start: int, end: int, table_gradient: Tensor) -> None:
        pair = self._pairs(start, end)  # [sequences or 1, rows, columns]
        by_head = score_gradient.view(len(table_gradient), -1, *pair.shape[1:])
        if len(pair) == 1:
            by_head = by_head.sum(1, keepdim=True)
        by_head = by_head.flatten(1).to(table_gradient.dtype)
        table_gradient.scatter_add_(1, pair.reshape(1, -1).expand_as(by_head), by_head)
