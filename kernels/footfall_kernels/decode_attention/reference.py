"""decode_attention and append in plain torch: their definitions."""

import torch
from torch import Tensor
from torch.nn.functional import silu

from footfall_kernels.buckets import bucket_of_reference


def decode(
    q: Tensor,
    k_new: Tensor,
    v_new: Tensor,
    pages: tuple[Tensor, Tensor, Tensor],
    page_table: Tensor,
    lengths: Tensor,
    time: Tensor | None,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    kind: str,
    causal: bool,
    scale: float,
    normaliser: float,
) -> Tensor:
    """As decode_attention; `pages` are the cache's k, v and time. Scores of all pairs are held at once."""
    keys, values, cached_time = (_in_order(pool, page_table, lengths) for pool in pages)
    rows, cached = q.shape[1], keys.shape[1]
    wide = torch.promote_types(q.dtype, torch.float32)
    # [batch, heads, rows, head_dim] each.
    query, keys, values, new_keys, new_values = (
        tensor.to(wide).transpose(1, 2) for tensor in (q, keys, values, k_new, v_new)
    )
    query = query * scale
    new, place = torch.arange(rows, device=q.device), torch.arange(cached, device=q.device)
    length = lengths.long()[:, None]

    # A query's axis has one entry where all queries share it: candidates a position, and maybe a time.
    seen = query @ keys.transpose(2, 3)
    beside = query @ new_keys.transpose(2, 3) if causal else (query * new_keys).sum(3, keepdim=True)
    if position_bias is not None:
        position = length + new if causal else length
        seen = seen + _bias(position_bias, position[:, :, None] - place)
        beside = beside + _bias(position_bias, (new[:, None] - new if causal else new[:1, None])[None])
    if time_bias is not None and time is not None:
        happened, now = (time, time) if time.dim() == 2 else time.unbind(2)
        seen = seen + _bias(time_bias, now[:, :, None] - cached_time[:, None, :])
        apart = now[:, :, None] - happened[:, None, :] if causal else (now - happened)[:, :, None]
        beside = beside + _bias(time_bias, apart)

    if kind == "silu":  # rows past a length are zero in `values`
        seen, beside = (silu(scores) / normaliser for scores in (seen, beside))
        beside = beside.tril() if causal else beside
    else:
        seen = seen.masked_fill((place >= length)[:, None, None], -torch.inf)
        if causal:
            beside = beside.masked_fill(new > new[:, None], -torch.inf)
        weights = torch.cat([seen, beside], 3).softmax(3)
        seen, beside = weights[..., :cached], weights[..., cached:]
    output = seen @ values + (beside @ new_values if causal else beside * new_values)
    return output.transpose(1, 2).to(q.dtype).contiguous()


def append(
    k: Tensor,
    v: Tensor,
    time: Tensor,
    pages: tuple[Tensor, Tensor, Tensor],
    page_table: Tensor,
    lengths: Tensor,
    sequences: Tensor,
    offsets: Tensor,
) -> None:
    """Writes rows offsets[i] to offsets[i + 1] behind sequence sequences[i], zeros to the end of its last page."""
    page = pages[0].shape[1]
    counts = offsets.diff()
    start = lengths[sequences].long()
    end = start + counts
    filled = torch.where(counts > 0, -(-end // page) * page, start) - start
    owner = torch.repeat_interleave(torch.arange(len(counts), device=k.device), filled)
    within = torch.arange(len(owner), device=k.device) - (filled.cumsum(0) - filled)[owner]
    position = start[owner] + within
    row = page_table[sequences[owner].long(), position // page] * page + position % page
    real = within < counts[owner]
    source = (offsets[:-1][owner] + within)[real]
    for pool, rows in zip(pages, (k, v, time), strict=True):
        flat = pool.view(-1, *pool.shape[2:])
        flat[row[~real]] = 0
        flat[row[real]] = rows[source]
    lengths[sequences] = end.to(lengths.dtype)


def _in_order(pool: Tensor, page_table: Tensor, lengths: Tensor) -> Tensor:
    """[num_pages, page, ...] -> [batch, most, ...]: every sequence's rows by position, zeros behind its end."""
    most = int(lengths.max()) if len(lengths) else 0
    used = page_table[:, : -(-most // pool.shape[1])].clamp_min(0).long()
    rows = pool[used].flatten(1, 2)[:, :most]
    inside = torch.arange(most, device=pool.device) < lengths[:, None]
    return rows.masked_fill(~inside.view(*inside.shape, *[1] * (rows.dim() - 2)), 0)


def _bias(table: Tensor, apart: Tensor) -> Tensor:
    """Table [heads, buckets], distances [batch, rows, keys] -> [batch, heads, rows, keys]."""
    return table[:, bucket_of_reference(apart, table.shape[1])].transpose(0, 1)
