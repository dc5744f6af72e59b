"""Time of embed_events, forward and forward with backward, beside five torch operations that compute the same.

    python kernels/benchmarks/embed_events.py [--device cuda] [--small]

A peer's backward is torch's own: nn.Embedding's gradient of each table. The last line is one JSON object. --small
times tiny shapes instead, in Triton's interpreter too where TRITON_INTERPRET=1.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _timing import report, time_ms
from torch import Tensor
from torch.nn.functional import embedding

from footfall_kernels.embed_events.embed_events import embed_events
from footfall_kernels.launch import interpreted

SCALE = 8.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--events", type=int, default=262_144)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--positions", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="300 events of 500 items, to see it run")
    options = parser.parse_args()
    if options.small:
        options.events, options.items, options.positions = 300, 500, 50
    dtype = torch.bfloat16 if options.device.startswith("cuda") else torch.float32
    indices, tables = _draw(options, dtype)
    weight = torch.randn(options.events, options.width, device=options.device, dtype=dtype)

    functions: dict[str, Callable[[], object]] = {}
    for name, embed in _implementations(options.device).items():
        functions[f"{name} forward"] = partial(embed, *indices, *tables)
        functions[f"{name} forward+backward"] = partial(_both, embed, indices, tables, weight)
    rows: list[dict[str, Any]] = []
    for name, ms in time_ms(functions, device=options.device, repeats=options.repeats).items():
        peers = [] if name.startswith("torch") else [f"torch {name.split()[-1]}"]
        rows.append({"implementation": name, "ms": ms, "peers": peers})
    shapes = {name: getattr(options, name) for name in ("events", "items", "width", "positions")}
    report("embed_events", {**shapes, "dtype": str(dtype).removeprefix("torch.")}, rows, {})


def _both(
    embed: Callable[..., Tensor], indices: list[Tensor], tables: list[Tensor], weight: Tensor
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(embed(*indices, *tables), tables, weight)


def _draw(options: argparse.Namespace, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Items by Zipf's law (exponent about 1), as shops sell them."""
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(options.events, generator=generator, dtype=torch.float64)
    item = (options.items**share).long().clamp_max(options.items - 1)
    counts = (options.items, 5, 40, options.positions)
    others = [torch.randint(count, (options.events,), generator=generator) for count in counts[1:]]
    tables = [torch.randn(count, options.width, generator=generator) for count in counts]
    indices = [index.to(options.device) for index in (item, *others)]
    return indices, [table.to(options.device, dtype).requires_grad_() for table in tables]


def _torch(item: Tensor, action: Tensor, gap: Tensor, position: Tensor, *tables: Tensor) -> Tensor:
    items, actions, gaps, positions = tables
    tokens = (embedding(item, items) + embedding(action, actions)) * SCALE
    return tokens + embedding(position, positions) + embedding(gap, gaps)


def _implementations(device: str) -> dict[str, Callable[..., Tensor]]:
    def ours(implementation: str, sparse: bool) -> Callable[..., Tensor]:
        return lambda *arguments: embed_events(
            *arguments, implementation=implementation, scale=SCALE, sparse=sparse
        )

    chosen = ["reference"] if device == "cpu" else []
    if interpreted() or device != "cpu":
        chosen.append("triton")
    return {
        "torch": _torch,
        **{name: ours(name, False) for name in chosen},
        **{f"{name} sparse": ours(name, True) for name in chosen},
    }


if __name__ == "__main__":
    main()
