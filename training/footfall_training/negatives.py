"""Negatives: items drawn for the sampled softmax, and how often a draw is expected to hold each."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footfall.contract import PADDING_INDEX

POPULARITY_POWER = 0.75
"""Of popularity as a share of the draw (Mikolov et al., arXiv 1310.4546)."""
UNIFORM_SHARE = 0.1
"""Of a draw, what is drawn evenly from the whole catalogue."""


class Negatives:
    """A mixture of draws by popularity and of even draws over the catalogue, as in mixed negative sampling (Yang et
    al., WWW 2020 companion): by popularity alone, an item without events would never be one.

    `log_expected` fp32 [num_items + 1] is the log of each item's expected count in one draw, of the mixture as a
    whole; subtracted from the logits it makes the sampled softmax tend to the full one (Bengio and Senecal, 2008).
    On the host, where a step's rows are found before its batch goes to the device.
    """

    def __init__(self, count: NDArray[np.int64], num_negatives: int) -> None:
        """count int64 [num_items + 1]: how popular each item is."""
        popularity = count[PADDING_INDEX + 1 :] ** POPULARITY_POWER
        even = np.full(len(popularity), 1 / len(popularity))
        share = (1 - UNIFORM_SHARE) * popularity / popularity.sum() + UNIFORM_SHARE * even
        self._num_negatives = num_negatives
        # Searched, not torch.multinomial, which takes at most 2**24 items; fp64, since an fp32 sum of so many stalls.
        self._cumulative = torch.from_numpy(np.cumsum(share))
        log_expected = np.concatenate([[-np.inf], np.log(share * num_negatives)])
        self.log_expected = torch.from_numpy(log_expected.astype(np.float32))

    def draw(self) -> Tensor:
        """Items, one as often as it falls: int64 [num_negatives]."""
        cumulative = self._cumulative
        point = torch.rand(self._num_negatives, dtype=cumulative.dtype)
        place = torch.searchsorted(cumulative, point * cumulative[-1], right=True)
        # The product may round up to the last sum, and then the place lies past the end.
        return place.clamp_(max=len(cumulative) - 1) + PADDING_INDEX + 1
