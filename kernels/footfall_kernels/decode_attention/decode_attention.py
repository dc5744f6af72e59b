"""decode_attention and append: new rows of many sequences against their cached histories.

Split over keys as flash-decoding is (arXiv 2311.01282), for softmax and for HSTU's pointwise SiLU (arXiv 2402.17152),
over a paged cache (arXiv 2309.06180).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, get_args

import torch
from torch import Tensor

from footfall.errors import InputError, check_choice
from footfall_kernels.attention.rules import Kind
from footfall_kernels.checks import FLOATS, check_head_dim, check_implementation, check_tensor
from footfall_kernels.decode_attention import reference
from footfall_kernels.decode_attention.paged_cache import PagedCache


def decode_attention(
    q: Tensor,
    k_new: Tensor,
    v_new: Tensor,
    cache: PagedCache,
    *,
    implementation: str,
    kind: str,
    causal: bool,
    scale: float,
    normaliser: float = 1.0,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
    time: Tensor | None = None,
    sequences: Tensor | None = None,
) -> Tensor:
    """Attention of new rows to the cached rows of their sequence and to new ones -> [batch, M, heads, head_dim].

    q, k_new, v_new: [batch, M, heads, head_dim] of the cache's dtype: fp32, fp16 or bf16; "triton" takes head_dim 32,
    64 or 128.
    Row i of the batch reads sequence i of the cache, or sequences[i] (int32 or int64 [batch]). `causal`: the new rows
    follow the history, row i at position length + i, and see it, earlier new rows and themselves; else they are
    candidates, all at position `length`, and see the history and themselves alone.

    z = scale * q . k + position_bias[h, bucket(positions apart)] + time_bias[h, bucket(seconds apart)], bucket(x) =
    min(bit length of max(x, 0), buckets - 1); tables [heads, buckets] fp32, fp16 or bf16. `time`: int32 seconds of
    the new rows, [batch, M, 2]: when each happened, and when it looks back; or [batch, 1] where those of a sequence
    look back from one instant (cheaper: looked up once a key). kind
    "softmax": weights are softmax(z); "silu": z * sigmoid(z) / normaliser. Sums are fp32; no gradient.
    `implementation`: "reference" (torch) or "triton" (a GPU, where silu is by tanh.approx, within 1e-3; or the
    interpreter).

    Raises InputError for wrong shapes, dtypes, devices, kinds and implementations.
    """
    _check_rows(q, k_new, v_new, cache, implementation)
    batch, rows, heads, _ = q.shape
    check_choice("kind", kind, get_args(Kind))
    if scale <= 0:
        raise InputError(f"scale is {scale}, it must be above 0")
    if kind == "silu" and normaliser <= 0:
        raise InputError(f"normaliser is {normaliser}, it must be above 0")
    for name, table in (("position_bias", position_bias), ("time_bias", time_bias)):
        if table is not None:
            check_tensor(name, table, [heads, None], FLOATS, like=q)
            if table.shape[1] == 0:
                raise InputError(f"{name} has no buckets")
    if (time is None) != (time_bias is None):
        raise InputError("time and time_bias belong together, one of them is missing")
    if time is not None:
        shape = [batch, 1] if time.dim() == 2 else [batch, rows, 2]
        check_tensor("time", time, shape, (torch.int32,), like=q)
    page_table, lengths = cache.page_table, cache.lengths
    if sequences is not None:
        check_tensor("sequences", sequences, [batch], (torch.int32, torch.int64), like=q)
        page_table, lengths = page_table.index_select(0, sequences), lengths.index_select(0, sequences)
    elif len(lengths) != batch:
        raise InputError(f"q has {batch} sequences, the cache {len(lengths)}; say which by `sequences`")
    check_implementation(implementation, q)
    output: Tensor = _decode(
        q, k_new, v_new, cache.k, cache.v, cache.time, page_table, lengths, time, position_bias, time_bias,
        kind, causal, scale, normaliser if kind == "silu" else 1.0, implementation,
    )  # fmt: skip
    return output


def append(
    cache: PagedCache,
    k: Tensor,
    v: Tensor,
    time: Tensor,
    *,
    implementation: str,
    sequences: Sequence[int],
    offsets: Sequence[int],
) -> None:
    """Writes packed rows behind what the cache holds: rows offsets[i] to offsets[i + 1] go to sequence sequences[i].

    k, v: [rows, heads, head_dim] of the cache's dtype. time: int32 seconds [rows]. `cache.allocate` comes first. The
    rest of the last page becomes zero. Raises InputError, and writes nothing, for wrong shapes, dtypes, devices and
    offsets, for a sequence named twice, and for rows without an allocation.
    """
    heads, head_dim = cache.k.shape[2:]
    for name, rows in (("k", k), ("v", v)):
        check_tensor(
            name, rows, [k.shape[0] if k.dim() else None, heads, head_dim], [cache.k.dtype], like=cache.k
        )
    check_tensor("time", time, [len(k)], (torch.int32,), like=cache.k)
    if len(offsets) != len(sequences) + 1 or offsets[0] != 0 or offsets[-1] != len(k):
        raise InputError(
            f"offsets {list(offsets)} do not part {len(k)} rows among {len(sequences)} sequences, from 0 to {len(k)}"
        )
    counts = [end - start for start, end in pairwise(offsets)]
    rows_of = dict(zip(sequences, counts, strict=True))
    if len(rows_of) != len(sequences):
        raise InputError(f"a sequence is named twice in {list(sequences)}")
    check_implementation(implementation, k)
    cache.write(rows_of)
    places = torch.tensor([*sequences, *offsets], dtype=torch.int64).to(k.device)
    _append(
        k, v, time, cache.k, cache.v, cache.time, cache.page_table, cache.lengths,
        places[: len(sequences)], places[len(sequences) :], implementation,
    )  # fmt: skip


@torch.library.custom_op("footfall::decode_attention", mutates_args=())
def _decode(
    q: Tensor,
    k_new: Tensor,
    v_new: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    time_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    time: Tensor | None,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    kind: str,
    causal: bool,
    scale: float,
    normaliser: float,
    implementation: str,
) -> Tensor:
    return _chosen(implementation).decode(  # type: ignore[no-any-return]
        q, k_new, v_new, (k_pages, v_pages, time_pages), page_table, lengths, time, position_bias, time_bias,
        kind, causal, scale, normaliser,
    )  # fmt: skip


@_decode.register_fake
def _(q: Tensor, *_: object) -> Tensor:
    return q.new_empty(q.shape)


@torch.library.custom_op("footfall::append", mutates_args=("k_pages", "v_pages", "time_pages", "lengths"))
def _append(
    k: Tensor,
    v: Tensor,
    time: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    time_pages: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    sequences: Tensor,
    offsets: Tensor,
    implementation: str,
) -> None:
    _chosen(implementation).append(
        k, v, time, (k_pages, v_pages, time_pages), page_table, lengths, sequences, offsets
    )


def _chosen(implementation: str) -> Any:
    """The module; the kernels' is imported where they run, because the reference runs where there is no triton."""
    if implementation == "reference":
        return reference
    from footfall_kernels.decode_attention import launcher

    return launcher


@_append.register_fake
def _(*_: object) -> None:
    return None


def _check_rows(q: Tensor, k_new: Tensor, v_new: Tensor, cache: PagedCache, implementation: str) -> None:
    heads, head_dim = cache.k.shape[2:]
    check_head_dim(head_dim, implementation)
    check_tensor("q", q, [None, None, heads, head_dim], [cache.k.dtype], like=cache.k)
    for name, rows in (("k_new", k_new), ("v_new", v_new)):
        check_tensor(name, rows, q.shape, [q.dtype], like=q)
