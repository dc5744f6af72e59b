"""Time of decode_attention on candidates over cached events, beside torch's attention on the same keys without pages.

    python kernels/benchmarks/decode_attention.py [--device cuda] [--small]

The peer of "softmax" is scaled_dot_product_attention of the candidates over contiguous cached keys (without each
candidate's own key); that of "silu" is the three operations written out. The last line is one JSON object.
The default shape is a GPU's; on a CPU take --batch 4 --cached 2048. --small times tiny shapes instead, in Triton's
interpreter too where TRITON_INTERPRET=1.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from _timing import report, time_ms
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, silu

from footfall.errors import InputError
from footfall_kernels.decode_attention.decode_attention import append, decode_attention
from footfall_kernels.decode_attention.paged_cache import PagedCache
from footfall_kernels.launch import interpreted

NUM_BUCKETS = 16
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2}
"""Of the norm of a difference over the norm: bf16 rounds inputs to 2^-9, weights and output once more."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--candidates", type=int, default=512)
    parser.add_argument("--cached", type=int, default=8192)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--small", action="store_true", help="2 x 20 candidates over 150 events, to see it run"
    )
    options = parser.parse_args()
    if options.small:
        options.batch, options.candidates, options.cached, options.heads = 2, 20, 150, 1
    dtype = torch.bfloat16 if options.device.startswith("cuda") else torch.float32
    torch.manual_seed(0)
    functions = _functions(options, dtype)
    _prove(functions, TOLERANCE[dtype])
    rows: list[dict[str, Any]] = []
    for name, ms in time_ms(functions, device=options.device, repeats=options.repeats).items():
        peers = [] if name.startswith("torch") else [f"torch {name.split()[1]}"]
        rows.append({"implementation": name, "ms": ms, "peers": peers})
    names = ("batch", "candidates", "cached", "heads", "head_dim")
    shapes = {name: getattr(options, name) for name in names}
    report("decode_attention", {**shapes, "dtype": str(dtype).removeprefix("torch.")}, rows, {})


def _functions(options: argparse.Namespace, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    batch, heads, cached, device = options.batch, options.heads, options.cached, options.device
    scale, most = options.head_dim**-0.5, -(-cached // 64)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    cache = PagedCache.empty(
        sequences=batch, num_pages=batch * most, max_pages=most, heads=heads, head_dim=options.head_dim,
        dtype=dtype, device=device,
    )  # fmt: skip
    cache.allocate_all(dict.fromkeys(range(batch), cached))
    keys, values = (random(batch * cached, heads, options.head_dim) for _ in range(2))
    time = torch.randint(10**7, (batch * cached,), dtype=torch.int32, device=device)
    offsets = list(range(0, batch * cached + 1, cached))
    append(cache, keys, values, time, implementation="reference", sequences=range(batch), offsets=offsets)
    q, k, v = (random(batch, options.candidates, heads, options.head_dim) for _ in range(3))
    bias = {
        "position_bias": torch.randn(heads, NUM_BUCKETS, device=device),
        "time_bias": torch.randn(heads, NUM_BUCKETS, device=device),
        "time": torch.full((batch, 1), 10**7, dtype=torch.int32, device=device),
    }
    apart = {**bias, "time": bias["time"][:, None].expand(-1, options.candidates, 2).contiguous()}
    across, along, values_along = (
        tensor.view(batch, -1, heads, options.head_dim).transpose(1, 2).contiguous()
        for tensor in (q, keys, values)
    )

    def ours(implementation: str, kind: str, tables: dict[str, Tensor]) -> Callable[[], Tensor]:
        return lambda: decode_attention(
            q, k, v, cache, implementation=implementation, kind=kind, causal=False, scale=scale,
            normaliser=float(cached), **tables,
        )  # fmt: skip

    functions: dict[str, Callable[[], Tensor]] = {
        "torch softmax": lambda: scaled_dot_product_attention(across, along, values_along),
        "torch silu": lambda: silu(across @ along.transpose(2, 3) * scale) @ values_along,
    }
    chosen = ["reference", "triton"] if interpreted() or device != "cpu" else ["reference"]
    for implementation in chosen:
        for kind in ("silu", "softmax"):
            functions[f"{implementation} {kind}"] = ours(implementation, kind, {})
            functions[f"{implementation} {kind} with bias"] = ours(implementation, kind, bias)
            functions[f"{implementation} {kind} with bias, a time a row"] = ours(implementation, kind, apart)
    return functions


def _prove(functions: dict[str, Callable[[], Tensor]], tolerance: float) -> None:
    """Raises InputError where the kernels give something else than the reference, which a GPU runs as well."""
    for name, function in functions.items():
        if name.startswith("triton"):
            want = functions[name.replace("triton", "reference")]().float()
            off = float((function().float() - want).norm() / want.norm())
            if not off <= tolerance:
                raise InputError(f"{name} differs from the reference by {off:.2g}: nothing is timed")


if __name__ == "__main__":
    main()
