"""Item table: in training a row is made of an item's id and of what else is known of it; then it is plain weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional


class ItemRows(nn.Module):
    """Parametrization of the table of ids [num_items + 1, width]: every row of length 1, the padding row 0.

    features: what is known of the items, text or category or price: each a module that takes items int64 [items] and
    gives what it adds to their rows before these are divided by their lengths, [items, width], 0 for padding.
    """

    def __init__(self, features: Iterable[nn.Module] = ()) -> None:
        super().__init__()
        self.features = nn.ModuleList(features)

    def forward(self, table: Tensor) -> Tensor:
        return self.of(table, torch.arange(len(table), device=table.device))

    def of(self, rows: Tensor, item: Tensor) -> Tensor:
        """From the ids' rows [items, width] of some items, int64 [items], these items' own."""
        for feature in self.features:
            rows = rows + feature(item)
        return functional.normalize(rows, dim=1)

    def described(self, item: Tensor) -> Tensor:
        """Which of them a feature tells something of, adding to their rows: bool [items]."""
        told = torch.zeros_like(item, dtype=torch.bool)
        with torch.no_grad():
            for feature in self.features:
                told |= (feature(item) != 0).any(dim=1)
        return told
