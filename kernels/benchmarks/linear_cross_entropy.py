"""linear_cross_entropy, forward and backward, against the plain loss on the whole matrix of logits: time and memory.

    python kernels/benchmarks/linear_cross_entropy.py [--samples 1024] [--interpret-small]

Without options: 1M items, 16,384 tokens, width 256, bf16 on a GPU (the plain loss holds 100 GB there: an H200);
a shape that fits a laptop, fp32, on a CPU. --interpret-small runs the Triton kernels in the interpreter.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from _timing import peak_bytes, report, time_ms
from torch import Tensor
from torch.nn import functional

from footfall.errors import InputError
from footfall_kernels.launch import interpreted
from footfall_kernels.linear_cross_entropy import linear_cross_entropy


def plain(
    hidden: Tensor, table: Tensor, target: Tensor, negative: Tensor | None, log_q: Tensor | None
) -> Tensor:
    """Mean loss [] through every logit."""
    if negative is None or log_q is None:
        return functional.cross_entropy(hidden @ table[1:].T, target - 1)
    positive = (hidden * table[target]).sum(dim=1, keepdim=True)
    others = (hidden @ table[negative].T - log_q[negative]).to(hidden.dtype)
    others = others.masked_fill(negative == target.unsqueeze(1), -torch.inf)
    return functional.cross_entropy(torch.cat([positive, others], 1), torch.zeros_like(target))


def measure(
    name: str, loss: Callable[[], Tensor], leaves: tuple[Tensor, Tensor], repeats: int
) -> dict[str, Any]:
    """Time and peak memory of loss and both gradients."""

    def step() -> object:
        return torch.autograd.grad(loss(), leaves)

    device = leaves[0].device
    return {
        "implementation": name,
        "ms": time_ms(step, device=device, repeats=repeats),
        "peak_mib": round(peak_bytes(step, device=device) / 2**20, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--tokens", type=int, default=16_384 if on_gpu else 2_048)
    parser.add_argument("--items", type=int, default=1_000_000 if on_gpu else 20_000)
    parser.add_argument("--width", type=int, default=256 if on_gpu else 64)
    parser.add_argument("--samples", type=int, help="shared negatives; default: the full softmax")
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="bfloat16" if on_gpu else "float32"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--interpret-small", action="store_true", help="tiny shapes, under TRITON_INTERPRET=1"
    )
    options = parser.parse_args()
    if options.interpret_small:
        if not interpreted():
            raise InputError("--interpret-small needs TRITON_INTERPRET=1 in the environment")
        options.tokens, options.items, options.width, options.repeats = 64, 300, 32, 2
    device, dtype = "cuda" if on_gpu else "cpu", getattr(torch, options.dtype)
    hidden = torch.randn(options.tokens, options.width, device=device).to(dtype).requires_grad_()
    table = (torch.randn(options.items + 1, options.width, device=device) / 16).to(dtype).requires_grad_()
    target = torch.randint(1, options.items + 1, (options.tokens,), device=device)
    negative = log_q = None
    if options.samples:
        negative = torch.randint(1, options.items + 1, (options.samples,), device=device)
        log_q = torch.zeros(options.items + 1, device=device)
    leaves = (hidden, table)
    rows = [
        measure("plain torch", lambda: plain(hidden, table, target, negative, log_q), leaves, options.repeats)
    ]
    for implementation in (
        ("triton",) if on_gpu else ("reference", "triton") if interpreted() else ("reference",)
    ):

        def ours(implementation: str = implementation) -> Tensor:
            return linear_cross_entropy(
                hidden, table, target, implementation=implementation, negative=negative, log_q=log_q
            )

        rows.append({**measure(implementation, ours, leaves, options.repeats), "peer": "plain torch"})
        rows[-1]["memory_ratio_to_peer"] = round(rows[-1]["peak_mib"] / rows[0]["peak_mib"], 3)
    shapes = {name: getattr(options, name) for name in ("tokens", "items", "width", "samples", "dtype")}
    report("linear_cross_entropy forward and backward", shapes, rows)


if __name__ == "__main__":
    main()
