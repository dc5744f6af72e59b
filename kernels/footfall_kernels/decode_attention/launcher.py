"""decode_attention and append in Triton: launchers, and the table of their compilations."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import triton
from torch import Tensor

from footfall_kernels.decode_attention.kernel import append_pages, attend, key_bias, merge
from footfall_kernels.launch import Variant, architecture, interpreted, upcast

Bias = Literal["none", "by key", "by score"]
"""Where it is looked up: all new rows share it, or they do not."""
WAVES = 2
"""Programs per multiprocessor that splitting the keys aims at."""
MERGE_BLOCK = 16
APPEND_TILE, APPEND_WIDTH = 64, 128
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Configuration:
    """Rows of a block, keys of a tile, and how the kernel is launched."""

    block: int
    tile: int
    num_warps: int
    num_stages: int
    options: dict[str, int] = field(default_factory=dict)


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
    """As in decode_attention_reference."""
    batch, rows, heads, head_dim = q.shape
    output = torch.empty_like(q, memory_format=torch.contiguous_format)
    if not output.numel():
        return output
    one_time = time is not None and time.dim() == 2
    bias = _bias(position_bias is not None, time_bias is not None, causal, one_time)
    chosen = configuration(architecture(q.device), rows, head_dim, q.dtype, kind, bias)
    blocks = triton.cdiv(rows, chosen.block)
    splits = split(blocks * batch * heads, page_table.shape[1] * pages[0].shape[1] // chosen.tile, q.device)
    silu = kind == "silu"
    partials, sums = output, None
    if splits > 1:
        partials = q.new_empty(splits, *q.shape, dtype=torch.float32)
        sums = None if silu else q.new_empty(splits, batch, rows, heads, 2, dtype=torch.float32)
    times, position_bias, time_bias = _contiguous(time, position_bias, time_bias)
    page_table, lengths = page_table.contiguous(), lengths.contiguous()
    page, max_pages = pages[0].shape[1], page_table.shape[1]
    shared = None if causal else position_bias, time_bias if one_time else None
    by_key = None
    if any(table is not None for table in shared):
        by_key = q.new_empty(batch, heads, max_pages * page, dtype=torch.float32)
        key_bias[max_pages, batch](
            pages[2], page_table, lengths, times, *shared, by_key, heads, max_pages, max_pages * page,
            NUM_POSITION=_buckets(shared[0]), NUM_TIME=_buckets(shared[1]), SILU=silu, PAGE=page,
        )  # fmt: skip
    attend[blocks, batch * heads, splits](
        *_contiguous(q, k_new, v_new), *pages, page_table, lengths, times, position_bias, time_bias, by_key,
        partials, sums, scale, 1.0 / normaliser, rows, heads, max_pages, max_pages * page,
        NUM_POSITION=_buckets(position_bias), NUM_TIME=_buckets(time_bias), SILU=silu, CAUSAL=causal,
        ONE_TIME=one_time, SPLIT=splits > 1, PAGE=page, HEAD_DIM=head_dim, BLOCK=chosen.block,
        TILE=chosen.tile, FAST=not interpreted(), UPCAST=upcast(q.dtype),
        num_warps=chosen.num_warps, num_stages=chosen.num_stages, **chosen.options,
    )  # fmt: skip
    if splits > 1:
        total = batch * rows * heads
        merge[(triton.cdiv(total, MERGE_BLOCK),)](
            partials, sums, output, splits, total, SILU=silu, HEAD_DIM=head_dim, BLOCK=MERGE_BLOCK
        )
    return output


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
    """As in decode_attention_reference."""
    page, width = pages[0].shape[1], k.shape[1] * k.shape[2]
    # One sequence may have all the rows, begin inside a tile and end with zeros up to a page's end.
    tiles = triton.cdiv(len(k), APPEND_TILE) + page // APPEND_TILE
    if len(k):
        append_pages[len(sequences), tiles, triton.cdiv(width, APPEND_WIDTH)](
            *_contiguous(k, v, time), *pages, page_table, lengths, sequences, offsets, page_table.shape[1],
            page, width, APPEND_TILE, APPEND_WIDTH,
        )  # fmt: skip
    lengths.index_add_(0, sequences, offsets.diff().to(lengths.dtype))


def configuration(
    arch: int, rows: int, head_dim: int, dtype: torch.dtype, kind: str, bias: Bias
) -> Configuration:
    """Of `architecture(device)`, or any other to compile ahead of time.

    512 candidates in blocks of 64 would read every cached key 8 times, 2.1 GB at B=32 H=4 D=64 L=8192: 6 TB/s in
    350 us, about what the L2 cache delivers. Blocks of 128 read half of that. Tiles of 64 keys spill where the
    choice is 32 (triton 3.8.0). With 128 registers a thread two blocks of 8 warps fit a multiprocessor, else one;
    softmax and biases would spill.
    """
    if dtype == torch.float32:  # products without tensor cores, whose operands stay in registers
        return Configuration(16 if rows <= 16 else 32, 32, 4, 2)
    num_stages = 2 if head_dim == 128 else 3
    if rows <= 16:
        return Configuration(16, 64, 4, num_stages)
    by_score = bias == "by score"
    tile = 32 if (arch < 90 or by_score) and (head_dim == 128 or (arch != 90 and by_score)) else 64
    if rows <= 64 or (head_dim == 128 and by_score):  # there, blocks of 128 spill
        return Configuration(64, tile, 4, num_stages)
    fits = arch >= 90 and head_dim <= 64 and kind == "silu" and bias == "none"
    return Configuration(128, tile, 8, num_stages, {"maxnreg": 128} if fits else {})


def _bias(position: bool, time: bool, causal: bool, one_time: bool) -> Bias:
    if (position and causal) or (time and not one_time):
        return "by score"
    return "by key" if position or time else "none"


def split(programs: int, tiles: int, device: torch.device) -> int:
    """Into how many parts the keys are split, so that every multiprocessor has WAVES programs: 1 to `tiles`."""
    return max(1, min(tiles, WAVES * _multiprocessors(device) // programs))


def _multiprocessors(device: torch.device) -> int:
    if device.type == "cpu":
        return 8  # the interpreter's: enough that small shapes are split
    return torch.cuda.get_device_properties(device).multi_processor_count


def _buckets(table: Tensor | None) -> int:
    return 0 if table is None else table.shape[1]


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def variants(arch: int) -> list[Variant]:
    """What serving compiles: every block and head_dim in bf16, the biases at head_dim 64.

    The other dtypes are there at head_dim 64 in the largest block; merge and append once a dtype.
    """
    chosen = [
        _attend(arch, "bf16", kind, rows, head_dim)
        for kind in ("silu", "softmax")
        for head_dim in (32, 64, 128)
        for rows in (1, 64, 512)
    ]
    for kind in ("silu", "softmax"):
        chosen += [
            _attend(arch, "bf16", kind, 512, 64, num_buckets=16, one_time=True),
            _attend(arch, "bf16", kind, 512, 64, num_buckets=16),
            _attend(arch, "bf16", kind, 64, 64, num_buckets=16, causal=True),
            _attend(arch, "fp16", kind, 512, 64),
            _attend(arch, "fp32", kind, 512, 64),
        ]
    chosen += [_key_bias("silu"), _key_bias("softmax")]
    for dtype in ("bf16", "fp16", "fp32"):
        chosen += [_merge(dtype, "silu"), _merge(dtype, "softmax"), _append(dtype)]
    return chosen


def _attend(
    arch: int,
    dtype: str,
    kind: str,
    rows: int,
    head_dim: int,
    *,
    num_buckets: int = 0,
    one_time: bool = False,
    causal: bool = False,
) -> Variant:
    biased = num_buckets > 0
    bias = _bias(biased, biased, causal, one_time)
    chosen = configuration(arch, rows, head_dim, DTYPES[dtype], kind, bias)
    constants: dict[str, Any] = {
        "NUM_POSITION": num_buckets, "NUM_TIME": num_buckets, "SILU": kind == "silu", "CAUSAL": causal,
        "ONE_TIME": one_time, "SPLIT": rows < 512, "PAGE": 64, "HEAD_DIM": head_dim,
        "BLOCK": chosen.block, "TILE": chosen.tile, "FAST": True, "UPCAST": False,
    }  # fmt: skip
    if not constants["SPLIT"] or kind == "silu":
        constants["Sums"] = None
    if causal or not num_buckets:
        constants["KeyBias"] = None
    if not num_buckets:
        constants |= dict.fromkeys(("Time", "PositionBias", "TimeBias"))
    kinds = {
        **dict.fromkeys(("Query", "NewKey", "NewValue", "K", "V", "Output"), f"*{dtype}"),
        **dict.fromkeys(("CachedTime", "PageTable", "Lengths", "Time"), "*i32"),
        **dict.fromkeys(("PositionBias", "TimeBias", "KeyBias", "Sums"), "*fp32"),
        **dict.fromkeys(("scale", "inverse"), "fp32"),
    }
    if constants["SPLIT"]:
        kinds["Output"] = "*fp32"
    mode = f"_bias_{bias.replace(' ', '_')}" * biased + "_causal" * causal
    name = f"decode_attention_{kind}_{dtype}_d{head_dim}_m{chosen.block}{mode}"
    scores = chosen.block * chosen.tile
    return _variant(
        name, attend, kinds, constants, chosen.num_warps, chosen.num_stages, scores, chosen.options
    )


def _key_bias(kind: str) -> Variant:
    kinds = {
        **dict.fromkeys(("CachedTime", "PageTable", "Lengths", "Time"), "*i32"),
        **dict.fromkeys(("PositionBias", "TimeBias", "KeyBias"), "*fp32"),
    }
    constants = {"NUM_POSITION": 16, "NUM_TIME": 16, "SILU": kind == "silu", "PAGE": 64}
    return _variant(f"decode_attention_key_bias_{kind}", key_bias, kinds, constants, 4, 3)


def _merge(dtype: str, kind: str) -> Variant:
    constants: dict[str, Any] = {"SILU": kind == "silu", "HEAD_DIM": 64, "BLOCK": MERGE_BLOCK}
    if kind == "silu":
        constants["Sums"] = None
    kinds = {"Partials": "*fp32", "Sums": "*fp32", "Output": f"*{dtype}"}
    return _variant(f"decode_attention_merge_{kind}_{dtype}", merge, kinds, constants, 4, 3)


def _append(dtype: str) -> Variant:
    kinds = {
        **dict.fromkeys(("NewKey", "NewValue", "K", "V"), f"*{dtype}"),
        **dict.fromkeys(("NewTime", "CachedTime", "PageTable", "Lengths"), "*i32"),
        **dict.fromkeys(("Sequences", "Offsets"), "*i64"),
    }
    constants = {"TILE": APPEND_TILE, "WIDTH": APPEND_WIDTH}
    return _variant(f"append_{dtype}", append_pages, kinds, constants, 4, 3)


def _variant(
    name: str,
    kernel: Any,
    kinds: dict[str, str],
    constants: dict[str, Any],
    num_warps: int,
    num_stages: int,
    scores: int = 0,
    options: dict[str, int] | None = None,
) -> Variant:
    arguments = {key: kinds.get(key, "i32") for key in kernel.arg_names if key not in constants}
    aligned = tuple(
        key for key, kind in arguments.items() if kind.startswith("*") or key in ("width", "capacity")
    )
    return Variant(name, kernel, arguments, constants, aligned, num_warps, num_stages, scores, options or {})
