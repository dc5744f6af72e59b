"""PaddedLayout: what the graph of an engine runs."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch.nn import functional

from footfall_kernels.attention.padded import attend_last_padded, attend_padded
from footfall_kernels.embed_events import reference as embed_events_reference
from footfall_models.config import Positions
from footfall_models.layouts.layout import Cell, QueryKeyValue


@dataclass(frozen=True)
class PaddedLayout:
    """Tokens [users, length, ...] filled from the left, time int32 [users, length, 2], how many are real int
    [users, 1]; only what ONNX can express.

    last_only: of the last layer, the states of each history's last token alone are asked for; picks: for that layer.
    """

    time: Tensor
    length: Tensor
    last_only: bool = False
    picks: bool = False

    def embed(self, indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
        return embed_events_reference.embed(indices, tables, scale)

    def positions(self, counted: Positions) -> Tensor:
        place = torch.arange(self.time.shape[1], device=self.time.device)
        return place if counted == "first" else (self.length.long() - 1 - place).clamp(min=0)

    def attend(self, layer: int, parts: QueryKeyValue) -> Tensor:
        query, key, value = (part.transpose(1, 2) for part in (parts.query, parts.key, parts.value))
        biases = {
            "time": self.time,
            "position_bias": parts.position_bias,
            "time_bias": parts.time_bias,
        }
        if self.picks:
            mixed = attend_last_padded(query, key, value, self.length, parts.rules, **biases)
        else:
            mixed = attend_padded(query, key, value, parts.rules, **biases)
        return mixed.transpose(1, 2)

    def narrow(self) -> "PaddedLayout":
        return replace(self, picks=self.last_only)

    def pick(self, tokens: Tensor) -> Tensor:
        """[users, length, ...] -> [users, 1, ...] where narrowed."""
        if not self.picks:
            return tokens
        last = (self.length.long() - 1).clamp(min=0)
        shape = tokens.shape[2:]
        return tokens.gather(1, last.view(-1, 1, *(1 for _ in shape)).expand(-1, -1, *shape))

    def scan(self, layer: int, cell: Cell, tokens: Tensor, width: int) -> Tensor:
        """As one Scan of ONNX, with the length left free."""

        def step(state: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
            after = cell(token, state)
            return after, after.clone()  # torch refuses two outputs that are one tensor

        begin = tokens.new_zeros(tokens.shape[0], width)
        states: Tensor = scan(step, begin, tokens.transpose(0, 1))[1]
        return states.transpose(0, 1)

    def filter(self, tokens: Tensor, weight: Tensor) -> Tensor:
        place = torch.arange(tokens.shape[1], device=tokens.device)
        last = (self.length.long() - 1).clamp(min=0)
        # [users or none, tokens or 1, length]
        distance = (last if self.picks else place).unsqueeze(-1) - place
        share = torch.where(distance >= 0, weight[distance.clamp(0, len(weight) - 1)], 0)
        return torch.matmul(share.to(tokens.dtype).view(-1, *distance.shape[-2:]), tokens)

    def shift(self, tokens: Tensor, distance: int) -> Tensor:
        if distance >= 0:
            return functional.pad(tokens, (0, 0, distance, 0))[:, : tokens.shape[1]]
        later = functional.pad(tokens, (0, 0, 0, -distance))[:, -distance:]
        place = torch.arange(tokens.shape[1], device=tokens.device)
        return later.masked_fill((place - distance >= self.length).unsqueeze(2), 0)
