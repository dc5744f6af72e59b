"""Layout: how the tokens of a batch lie, and how those of one history meet; one a forward pass of a SequenceModel."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from footfall_kernels.attention.rules import AttentionRules


@dataclass(frozen=True)
class QueryKeyValue:
    """One layer's query, key and value [..., heads, head_dim] and how they meet.

    position_bias and time_bias: fp32 [heads, buckets], or None (see footfall_kernels.attention.attention).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    rules: AttentionRules
    position_bias: Tensor | None = None
    time_bias: Tensor | None = None


class Cell(Protocol):
    """One step of a recurrence; row by row, so that rows may be taken away between two steps."""

    def __call__(self, token: Tensor, state: Tensor) -> Tensor:
        """A token of each history [histories, any] and the state before it [histories, width] -> the state after."""


class Layout(Protocol):
    """An encoder that mixes tokens by these three alone runs packed in training and in the torch engine, padded in
    ONNX and TensorRT, and from a cache. `layer` counts the calls of one pass: a cache keeps what each needs."""

    def embed(self, indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
        """Indices [...] and tables in the order item, action, gap, position -> [..., width]."""

    def attend(self, layer: int, parts: QueryKeyValue) -> Tensor:
        """What each token gathers from its history up to itself: as `parts.query`."""

    def scan(self, layer: int, cell: Cell, tokens: Tensor, width: int) -> Tensor:
        """The state [..., width] after each token [..., any], of a cell run along each history from a state of 0."""

    def shift(self, tokens: Tensor, distance: int) -> Tensor:
        """The token `distance` events earlier in the same history, later where that is negative; 0 beyond its begin
        and end: as `tokens` [..., width]."""
