"""catalogue_topk against a product and torch.topk on the whole matrix of scores, and against copy bandwidth.

    python kernels/benchmarks/catalogue_topk.py [--k 100] [--seen 200] [--int8] [--interpret-small]

Without options: 64 users, 1M items, width 256; bf16 on a GPU, fp32 and 100,000 items on a CPU. --interpret-small runs
the Triton kernels in the interpreter. "copy" is a copy of the table: it reads and writes it once each, where scoring
reads it once.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from _timing import facts, peak_bytes, report, time_ms
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.catalogue_topk import catalogue_topk
from footfall_kernels.launch import interpreted


def plain(user: Tensor, table: Tensor, k: int, scale: Tensor | None, seen: tuple[Tensor, Tensor]) -> Tensor:
    """Every score; items are seen by (user, item)."""
    score = user @ table.to(user.dtype).T
    if scale is not None:
        score = score * scale
    score[:, 0] = -torch.inf
    score[seen] = -torch.inf
    return score.topk(k, dim=1).indices


def measure(name: str, function: Callable[[], object], device: str, repeats: int) -> dict[str, Any]:
    """Time and peak memory of a call."""
    times = time_ms(function, device=device, repeats=repeats)
    peak = peak_bytes(function, device=device)
    return {"implementation": name, "ms": times, "peak_mib": round(peak / 2**20, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--items", type=int, default=1_000_000 if on_gpu else 100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seen", type=int, default=0, help="items that each user may not get")
    parser.add_argument("--int8", action="store_true", help="an int8 table, its rows scaled")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument(
        "--interpret-small", action="store_true", help="tiny shapes, under TRITON_INTERPRET=1"
    )
    options = parser.parse_args()
    if options.interpret_small:
        if not interpreted():
            raise InputError("--interpret-small needs TRITON_INTERPRET=1 in the environment")
        options.users, options.items, options.width, options.repeats = 4, 2_000, 32, 2
    device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    user = torch.randn(options.users, options.width, device=device).to(dtype)
    table, scale = torch.randn(options.items + 1, options.width, device=device).to(dtype), None
    if options.int8:
        scale = table.float().abs().amax(1) / 127
        table = (table / scale.unsqueeze(1)).round().to(torch.int8)
    items = torch.randint(1, options.items + 1, (options.users, options.seen), device=device)
    seen = (torch.arange(options.users, device=device).repeat_interleave(options.seen), items.flatten())
    offsets = torch.arange(options.users + 1, device=device) * options.seen
    excluded = (items.flatten().int(), offsets) if options.seen else None
    k, target = options.k, torch.empty_like(table)
    rows = [
        measure("copy", lambda: target.copy_(table), device, options.repeats),
        measure("plain torch", lambda: plain(user, table, k, scale, seen), device, options.repeats),
    ]
    bandwidth = 2 * table.nbytes / facts.summary(rows[0]["ms"])["median"]
    for implementation in (
        ("triton",) if on_gpu else ("reference", "triton") if interpreted() else ("reference",)
    ):

        def ours(implementation: str = implementation) -> object:
            return catalogue_topk(
                user, table, k, implementation=implementation, excluded=excluded, scale=scale
            )

        rows.append({**measure(implementation, ours, device, options.repeats), "peer": "plain torch"})
        reached = table.nbytes / facts.summary(rows[-1]["ms"])["median"]
        rows[-1]["fraction_of_copy_bandwidth"] = round(reached / bandwidth, 4)
    names = ("users", "items", "width", "k", "seen", "int8")
    shapes = {**{name: getattr(options, name) for name in names}, "dtype": str(dtype).removeprefix("torch.")}
    report("catalogue_topk", shapes, rows)


if __name__ == "__main__":
    main()
