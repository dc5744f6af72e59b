"""Definition of `catalogue_topk` in torch: what a CPU runs."""

import torch
from torch import Tensor

from footfall.contract import PADDING_INDEX
from footfall_kernels.catalogue_topk.largest import decode, largest_keys

CHUNK_SCORES = 1 << 21
"""Scores held at once, 8 MiB: 72 ms, 78 at twice that, 90 for all (64 users, 100,000 items, width 256, 1 core)."""
MIN_CHUNK_ITEMS = 1024


def catalogue_topk_reference(
    user: Tensor,
    table: Tensor,
    k: int,
    values: Tensor | None,
    offsets: Tensor | None,
    unlisted: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Chunks of the catalogue one after another; of each, the k best join those of the chunks before."""
    user = user.float()
    best = torch.empty((len(user), 0), dtype=torch.int64, device=user.device)
    hidden = None if values is None or offsets is None else _by_item(values, offsets)
    chunk = max(CHUNK_SCORES // max(len(user), 1), MIN_CHUNK_ITEMS)
    for start in range(0, len(table), chunk):
        part = slice(start, start + chunk)
        score = user @ table[part].float().T
        if scale is not None:
            score *= scale[part]
        if start == 0:
            score[:, PADDING_INDEX] = -torch.inf
        if hidden is not None:
            item, row = hidden
            within = _within(item, start, score.shape[1])
            score[row[within], item[within] - start] = -torch.inf
        if unlisted is not None:
            score[:, unlisted[_within(unlisted, start, score.shape[1])].long() - start] = -torch.inf
        best = torch.cat([best, largest_keys(score, k, start)], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return decode(best, k)


def _within(item: Tensor, start: int, count: int) -> slice:
    """Where the items from `start` on lie, `count` of the catalogue, in an ascending list."""
    return slice(*torch.searchsorted(item, item.new_tensor([start, start + count])).tolist())


def _by_item(values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Excluded items, ascending, and the user of each."""
    row = torch.arange(len(offsets) - 1, device=values.device).repeat_interleave(offsets.diff())
    item, order = values.long().sort()
    return item, row[order]
