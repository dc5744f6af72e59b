"""Time of packed attention, forward and forward with backward, beside torch's scaled_dot_product_attention.

    python kernels/benchmarks/attention.py [--device cuda] [--small]

The peer pads the same histories to the longest: softmax, causal, without bias, which is all it has. Lengths are drawn
by Zipf's law with exponent 1.2. On a GPU the Triton kernels run, on a CPU the reference; --small times tiny shapes
instead, in Triton's interpreter too where TRITON_INTERPRET=1. The last line is one JSON object.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from _timing import report, time_ms
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from footfall_kernels.attention import attention
from footfall_kernels.launch import interpreted

BUCKETS = 32
NORMALISER = 1000.0
Forward = Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--longest", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="3 histories of up to 40 events, to see it run")
    options = parser.parse_args()
    if options.small:
        options.batch, options.heads, options.head_dim, options.longest = 3, 2, 32, 40
    dtype = torch.bfloat16 if options.device.startswith("cuda") else torch.float32
    lengths = zipf_lengths(options.batch, options.longest)
    shape = (sum(lengths), 3, options.heads, options.head_dim)
    fused = torch.randn(shape, device=options.device, dtype=dtype, requires_grad=True)
    rows: list[dict[str, Any]] = []
    for name, forward in _contestants(options, lengths).items():

        def both(forward: Forward = forward) -> None:
            torch.autograd.grad(forward(fused).sum(), fused)

        for what, function in (("forward", partial(forward, fused)), ("forward+backward", both)):
            times = time_ms(function, device=options.device, repeats=options.repeats)
            rows.append({"implementation": f"{name} {what}", "ms": times})
            if name != "padded sdpa":
                rows[-1]["peer"] = f"padded sdpa {what}"
    shapes = {name: getattr(options, name) for name in ("batch", "heads", "head_dim", "longest")}
    shapes |= {"events": sum(lengths), "dtype": str(dtype).removeprefix("torch.")}
    report("packed causal attention", shapes, rows)


def zipf_lengths(batch: int, longest: int) -> list[int]:
    """Lengths 1..longest with probability ~ 1 / length^1.2, one of them the longest."""
    weight = np.arange(1, longest + 1) ** -1.2
    drawn = np.random.default_rng(0).choice(longest, batch - 1, p=weight / weight.sum()) + 1
    return [longest, *drawn.tolist()]


def _contestants(options: argparse.Namespace, lengths: list[int]) -> dict[str, Forward]:
    device = options.device
    offsets = torch.tensor([0, *np.cumsum(lengths).tolist()], device=device)
    time = torch.arange(sum(lengths), device=device, dtype=torch.int32) * 600
    tables = [torch.randn(options.heads, BUCKETS, device=device) for _ in "pt"]

    def ours(fused: Tensor, implementation: str, kind: Any, biased: bool) -> Tensor:
        query, key, value = fused.unbind(1)
        return attention(
            query, key, value, offsets, implementation=implementation, kind=kind, max_length=options.longest,
            normaliser=NORMALISER if kind == "silu" else 1.0, time=time if biased else None,
            position_bias=tables[0] if biased else None, time_bias=tables[1] if biased else None,
        )  # fmt: skip

    def padded(fused: Tensor) -> Tensor:
        histories = pad_sequence(
            list(torch.split(fused, lengths)), batch_first=True
        )  # [batch, longest, 3, heads, head_dim]
        query, key, value = histories.permute(2, 0, 3, 1, 4).unbind(0)
        return scaled_dot_product_attention(query, key, value, is_causal=True)

    names = ["triton"] if device.startswith("cuda") else ["reference"]
    names += ["triton"] if interpreted() and options.small else []
    found: dict[str, Forward] = {"padded sdpa": padded}
    for name in names:
        for kind in ("softmax", "silu"):
            for biased in (False, True):
                label = f"{name} {kind}{' + bias' if biased else ''}"
                found[label] = partial(ours, implementation=name, kind=kind, biased=biased)
    return found


if __name__ == "__main__":
    main()
