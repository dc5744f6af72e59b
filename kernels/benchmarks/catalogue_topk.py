"""catalogue_topk against a product and torch.topk on the whole matrix of scores, and against copy bandwidth.

    python kernels/benchmarks/catalogue_topk.py [--k 100] [--seen 200] [--int8] [--small]

Without options: 64 users, 1M items, width 256; bf16 on a GPU, fp32 and 100,000 items on a CPU. Ours is timed only if
its best scores are plain torch's. "copy" is a copy of the table: it reads and writes it once each, where scoring
reads it once. --small times tiny shapes instead, in Triton's interpreter too where TRITON_INTERPRET=1.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from _timing import facts, peak_bytes, report, time_ms
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.catalogue_topk.catalogue_topk import catalogue_topk
from footfall_kernels.launch import interpreted

TOLERANCE = 0.01
"""Of the largest score: plain torch rounds its scores to bf16, by 2^-9 at most."""


def plain(
    user: Tensor, table: Tensor, k: int, scale: Tensor | None, seen: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """(index, score) [users, k] through every score; items are seen by (user, item)."""
    score = user @ table.to(user.dtype).T
    if scale is not None:
        score = score * scale
    score[:, 0] = -torch.inf
    score[seen] = -torch.inf
    best = score.topk(k, dim=1)
    return best.indices, best.values


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
    parser.add_argument("--small", action="store_true", help="4 users, 2,000 items of 32, to see it run")
    options = parser.parse_args()
    if options.small:
        options.users, options.items, options.width = 4, 2_000, 32
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
    ours = partial(catalogue_topk, user, table, options.k, excluded=excluded, scale=scale)
    target = torch.empty_like(table)
    functions: dict[str, Callable[[], object]] = {
        "copy": lambda: target.copy_(table),
        "plain torch": lambda: plain(user, table, options.k, scale, seen),
    }
    _, want = plain(user, table, options.k, scale, seen)
    chosen = ["triton"] if on_gpu else ["reference", "triton"] if interpreted() else ["reference"]
    for implementation in chosen:
        _, score = ours(implementation=implementation)
        off = float((score - want.float()).abs().max() / want.float().abs().max())
        if not off <= TOLERANCE:
            raise InputError(f"{implementation} differs from plain torch by {off:.2g}: nothing is timed")
        functions[implementation] = partial(ours, implementation=implementation)
    times = time_ms(functions, device=device, repeats=options.repeats)
    bandwidth = 2 * table.nbytes / facts.summary(times["copy"])["median"]
    rows = []
    for name, ms in times.items():
        peak = peak_bytes(functions[name], device=device)
        rows.append({"implementation": name, "ms": ms, "peak_mib": round(peak / 2**20, 1)})
        if name in chosen:
            reached = table.nbytes / facts.summary(ms)["median"]
            rows[-1] |= {
                "peers": ["plain torch"],
                "fraction_of_copy_bandwidth": round(reached / bandwidth, 4),
            }
    names = ("users", "items", "width", "k", "seen", "int8")
    shapes = {**{name: getattr(options, name) for name in names}, "dtype": str(dtype).removeprefix("torch.")}
    report("catalogue_topk", shapes, rows, {})


if __name__ == "__main__":
    main()
