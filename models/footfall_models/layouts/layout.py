"""Layout: how the tokens of a batch lie, and how those of one history meet; one a forward pass of a SequenceModel."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from footfall_kernels.attention.rules import AttentionRules
from footfall_models.config import Positions


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
    """An encoder that mixes tokens by these four alone runs packed in training and in the torch engine, padded in
    ONNX and TensorRT, and from a cache. `layer` counts the calls of one pass: a cache keeps what each needs."""

    def embed(self, indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
        """Indices [...] and tables in the order item, action, gap, position -> [..., width]."""

    def positions(self, counted: Positions) -> Tensor:
        """Of each token, from 0: int64 [...]. Counted from the last they change as a history grows, so that nothing
        of it can be kept."""

    def attend(self, layer: int, parts: QueryKeyValue) -> Tensor:
        """What each token gathers from its history up to itself: as `parts.query`."""

    def scan(self, layer: int, cell: Cell, tokens: Tensor, width: int) -> Tensor:
        """The state [..., width] after each token [..., any], of a cell run along each history from a state of 0."""

    def shift(self, tokens: Tensor, distance: int) -> Tensor:
        """The token `distance` events earlier in the same history, later where that is negative; 0 beyond its begin
        and end: as `tokens` [..., width]."""

    def filter(self, tokens: Tensor, weight: Tensor) -> Tensor:
        """The sum of each token and those before it in its history, the one `distance` events earlier weighed by
        weight[distance], fp32 [longest history]: [..., width] of the tokens that `pick` picks."""

    def narrow(self) -> "Layout":
        """For the last layer, of which not every state may be asked: what `pick` picks are the tokens whose are,
        `attend` takes queries of these alone, and `filter` gives theirs. Where all are asked for, the layout itself.

        In ONNX Runtime on one core 200 events take 0.60 ms so instead of 1.55, 8 times 200 take 4.8 instead of 14.0
        (softmax, 8,140 items, width 128, 2 layers); HSTU gains little, whose pairs' numbers cost more.
        """

    def pick(self, tokens: Tensor) -> Tensor:
        """The tokens whose states are asked for: [..., any], all of them but in a layout made by `narrow`."""
