"""Item table: in training a row is made of an item's id and of what else is known of it; then it is plain weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional


class ItemRows(nn.Module):
    """Parametrization of the table of ids [num_items + 1, width]: every row of length 1, the padding row 0.

    features: what is known of the items, text or category or price: each a module without arguments that gives what
    it adds to the rows before they are divided by their lengths, [num_items + 1, width], 0 for padding.
    """

    def __init__(self, features: Iterable[nn.Module] = ()) -> None:
        super().__init__()
        self.features = nn.ModuleList(features)

    def forward(self, table: Tensor) -> Tensor:
        for feature in self.features:
            table = table + feature()
        return functional.normalize(table, dim=1)

    def described(self) -> Tensor:
        """Items that a feature tells something of, adding to their rows: bool [num_items + 1]."""
        with torch.no_grad():
            told = [(feature() != 0).any(dim=1) for feature in self.features]
        return torch.stack(told).any(dim=0) if told else torch.zeros((), dtype=torch.bool)
