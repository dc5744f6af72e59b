"""Attention of one padded group by matrix products, and its gradients; some queries at a time, to bound memory."""

from dataclasses import dataclass

import torch
from torch import Tensor

from footfall_kernels.attention_groups import Group
from footfall_kernels.attention_pairs import differentiate, look_up, score, weigh
from footfall_kernels.attention_rules import AttentionRules

CHUNK_SCORES = 1 << 18
"""Scores held at once, 1 MiB in fp32, unless CHUNK_ROWS are more."""
CHUNK_ROWS = 32
"""Queries of a sequence computed at once at least: each chunk reads all keys and values before it."""


@dataclass(frozen=True)
class Dense:
    """What does not change with the chunk. table: of pair_table; time int64 [total], where it has a table."""

    group: Group
    rules: AttentionRules
    num_buckets: tuple[int, int]
    table: Tensor
    time: Tensor | None

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[group, heads, length, head_dim] each, and so the result."""
        # Products of strided batches would copy their operands each time: 2.1 ms for 1.3 (128 x 2 heads, 50 x 64).
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        output = torch.empty_like(query)
        for start, end in self._chunks(query):
            weight = weigh(self._scores(query, key, start, end), self.rules).to(value.dtype)
            output[:, :, start:end] = torch.matmul(weight, value[:, :, :end])
        return output

    def backward(
        self,
        output_gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        table_gradient: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value in the dtype of the table; adds the table's to table_gradient, fp64.

        output_gradient is 0 where there is no event. Of scores S, weights W and output O = W V:
        dV = W' dO, dW = dO V'; dS = W (dW - row sum of W dW) for softmax, dW silu'(S) / normaliser for silu;
        dQ = scale dS K, dK = scale dS' Q.
        """
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        output_gradient = output_gradient.contiguous()
        query_gradient = torch.empty_like(query, dtype=self.table.dtype)
        key_gradient, value_gradient = torch.empty_like(query_gradient), torch.empty_like(query_gradient)
        # The last chunk reaches every key: it sets the gradients that those before it add to.
        length = query.shape[2]
        for start, end in reversed(self._chunks(query)):
            scores = self._scores(query, key, start, end)
            weight = weigh(scores, self.rules)
            gradient = output_gradient[:, :, start:end]
            weight_gradient = torch.matmul(gradient, value[:, :, :end].transpose(-1, -2)).to(scores.dtype)
            score_gradient = differentiate(scores, weight, weight_gradient, self.rules)
            if table_gradient is not None:
                self._add_to_table(score_gradient, start, end, table_gradient)
            score_gradient = score_gradient.to(query.dtype)
            query_gradient[:, :, start:end] = torch.matmul(score_gradient, key[:, :, :end])
            by_key = torch.matmul(score_gradient.transpose(-1, -2), query[:, :, start:end])
            by_value = torch.matmul(weight.to(query.dtype).transpose(-1, -2), gradient)
            if end == length:
                key_gradient.copy_(by_key)
                value_gradient.copy_(by_value)
            else:
                key_gradient[:, :, :end] += by_key
                value_gradient[:, :, :end] += by_value
        return query_gradient.mul_(self.rules.scale), key_gradient.mul_(self.rules.scale), value_gradient

    def _chunks(self, query: Tensor) -> list[tuple[int, int]]:
        """First row and the one behind the last."""
        group, heads, length, _ = query.shape
        rows = max(CHUNK_SCORES // (group * heads * length), CHUNK_ROWS)
        return [(start, min(start + rows, length)) for start in range(0, length, rows)]

    def _pairs(self, start: int, end: int) -> Tensor:
        return self.group.pairs(start, end, self.rules.window, self.rules.prefix, self.num_buckets, self.time)

    def _scores(self, query: Tensor, key: Tensor, start: int, end: int) -> Tensor:
        bias = look_up(self.table, self._pairs(start, end))
        return score(query[:, :, start:end], key[:, :, :end], bias, self.rules.scale)

    def _add_to_table(self, score_gradient: Tensor, start: int, end: int, table_gradient: Tensor) -> None:
        pair = self._pairs(start, end)  # [group or 1, rows, columns]
        if len(pair) == 1:
            score_gradient = score_gradient.sum(0, keepdim=True)
        by_head = score_gradient.transpose(0, 1).to(table_gradient.dtype).flatten(1)
        table_gradient.scatter_add_(1, pair.reshape(1, -1).expand_as(by_head), by_head)
