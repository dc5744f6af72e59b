"""linear_cross_entropy, forward and backward, against the plain loss on the whole matrix of logits: time and memory.

    python kernels/benchmarks/linear_cross_entropy.py [--samples 1024] [--small]

Without options: 1M items, 16,384 tokens, width 256, bf16 on a GPU (the plain loss holds 100 GB there: an H200;
where it does not fit, it stands in "absent"); a shape that fits a laptop, fp32, on a CPU. Ours is timed only if its
loss and gradients are the plain loss's on a part of the tokens. --small times tiny shapes instead, in Triton's
interpreter too where TRITON_INTERPRET=1.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _timing import peak_bytes, report, time_ms
from torch import Tensor
from torch.nn import functional

from footfall.errors import InputError
from footfall_kernels.launch import interpreted
from footfall_kernels.linear_cross_entropy.linear_cross_entropy import linear_cross_entropy

PROBE_TOKENS = 256
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-2}
"""Of the norm of a difference over the norm: of bf16 inputs, the plain loss rounds logits and their gradients too."""
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain(
    hidden: Tensor, table: Tensor, target: Tensor, negative: Tensor | None = None, log_q: Tensor | None = None
) -> Tensor:
    """Mean loss [] through every logit."""
    if negative is None or log_q is None:
        return functional.cross_entropy(hidden @ table[1:].T, target - 1)
    positive = (hidden * table[target]).sum(dim=1, keepdim=True)
    others = (hidden @ table[negative].T - log_q[negative]).to(hidden.dtype)
    others = others.masked_fill(negative == target.unsqueeze(1), -torch.inf)
    return functional.cross_entropy(torch.cat([positive, others], 1), torch.zeros_like(target))


def step(loss: Loss, hidden: Tensor, table: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Loss and both gradients."""
    value = loss(hidden, table, target)
    return value.detach(), *torch.autograd.grad(value, (hidden, table))


def difference(want: tuple[Tensor, ...], got: tuple[Tensor, ...]) -> float:
    """The norm of the difference over the norm, the largest of the loss's and the gradients'."""
    return max(
        float((mine.float() - right.float()).norm() / right.float().norm())
        for right, mine in zip(want, got, strict=True)
    )


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
    parser.add_argument("--small", action="store_true", help="64 tokens, 300 items of 32, to see it run")
    options = parser.parse_args()
    if options.small:
        options.tokens, options.items, options.width = 64, 300, 32
    device, dtype = "cuda" if on_gpu else "cpu", getattr(torch, options.dtype)
    hidden = torch.randn(options.tokens, options.width, device=device).to(dtype).requires_grad_()
    table = (torch.randn(options.items + 1, options.width, device=device) / 16).to(dtype).requires_grad_()
    target = torch.randint(1, options.items + 1, (options.tokens,), device=device)
    sampled: dict[str, Tensor] = {}
    if options.samples:
        sampled["negative"] = torch.randint(1, options.items + 1, (options.samples,), device=device)
        sampled["log_q"] = torch.zeros(options.items + 1, device=device)
    losses: dict[str, Loss] = {"plain torch": partial(plain, **sampled)}
    chosen = ["triton"] if on_gpu else ["reference", "triton"] if interpreted() else ["reference"]
    for name in chosen:
        losses[name] = partial(linear_cross_entropy, implementation=name, **sampled)
    part = [tensor[:PROBE_TOKENS] for tensor in (hidden, target)]
    want = step(losses["plain torch"], part[0], table, part[1])
    for name in chosen:
        off = difference(want, step(losses[name], part[0], table, part[1]))
        if not off <= TOLERANCE[dtype]:
            raise InputError(f"{name} differs from the plain loss by {off:.2g}: nothing is timed")
    del want
    functions = {name: partial(step, loss, hidden, table, target) for name, loss in losses.items()}
    absent = _drop_what_does_not_fit(functions)
    rows: list[dict[str, Any]] = []
    for name, ms in time_ms(functions, device=device, repeats=options.repeats).items():
        peak = peak_bytes(functions[name], device=device) / 2**20
        rows.append({"implementation": name, "ms": ms, "peak_mib": round(peak, 1)})
        if name in chosen and not absent:
            memory = round(peak / rows[0]["peak_mib"], 4)
            rows[-1] |= {"peers": ["plain torch"], "memory_ratio_to_peer": memory}
    shapes = {name: getattr(options, name) for name in ("tokens", "items", "width", "samples", "dtype")}
    report("linear_cross_entropy forward and backward", shapes, rows, absent)


def _drop_what_does_not_fit(functions: dict[str, partial[tuple[Tensor, ...]]]) -> dict[str, str]:
    """Takes the plain loss out of `functions` if the GPU's memory does not hold it; the reason by name."""
    try:
        functions["plain torch"]()
    except torch.OutOfMemoryError as reason:
        del functions["plain torch"]
        torch.cuda.empty_cache()
        return {"plain torch": str(reason).splitlines()[0]}
    return {}


if __name__ == "__main__":
    main()
