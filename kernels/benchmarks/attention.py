"""Time of packed causal attention, forward and backward, beside its peers on the same batch.

    python kernels/benchmarks/attention.py [--lengths full] [--longest 8192] [--meta-kernels FOLDER] [--small]

Peers: torch's SDPA on the batch padded to its longest, FlexAttention on the packed batch, Meta's Triton HSTU kernels
out of a checkout of generative-recommenders. A peer is timed only if its output and gradients are ours; why one is
not stands in "absent". Plans and block masks are made beforehand, once a batch, and timed as "plan". Lengths are
drawn by Zipf's law with exponent 1.2, or all the longest. On a GPU the Triton kernels run in bf16, on a CPU the
reference in fp32; --small times tiny shapes, in Triton's interpreter too where TRITON_INTERPRET=1. The last line is
JSON.
"""

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from _peers import BUCKETS, Batch, Contestant, NotAPeerError, flex, meta, ours, padded_sdpa
from _timing import facts, peak_tflops, report, time_ms
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.launch import interpreted

PEERS = ("sdpa", "flex", "meta")
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2}
"""Of the norm of a difference over the norm; bf16 measures 0.005 in the interpreter."""
PEER_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""The same, of a peer from ours: Meta's kernels add query gradients up in bf16, a block of keys after another."""
PROBE_LENGTHS = [150, 0, 1, 70]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--longest", type=int, default=1024)
    parser.add_argument("--lengths", choices=("zipf", "full"), default="zipf")
    parser.add_argument("--kinds", nargs="+", choices=("softmax", "silu"), default=["softmax", "silu"])
    parser.add_argument("--bias", choices=("without", "with", "both"), default="both")
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, help="default: all on a GPU, sdpa on a CPU, which fuses no other"
    )
    parser.add_argument("--meta-kernels", metavar="FOLDER", help="a checkout of generative-recommenders")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--small", action="store_true", help="3 histories of up to 40 events, to see it run")
    options = parser.parse_args()
    if options.small:
        options.batch, options.heads, options.head_dim, options.longest = 3, 2, 32, 40
    if options.peers is None:
        options.peers = PEERS if options.device.startswith("cuda") else PEERS[:1]
    dtype = torch.bfloat16 if options.device.startswith("cuda") else torch.float32
    lengths = [options.longest] * options.batch
    if options.lengths == "zipf":
        lengths = zipf_lengths(options.batch, options.longest)
    batch = draw(lengths, options.longest, options, dtype)
    rows: list[dict[str, Any]] = []
    absent = {name: "not asked for by --peers" for name in PEERS if name not in options.peers}
    biases = {"without": (False,), "with": (True,), "both": (False, True)}[options.bias]
    for kind, biased in itertools.product(options.kinds, biases):
        found = contestants(batch, kind, biased, options, absent)
        rows += measure(found, batch, f"{kind}{' + bias' if biased else ''}", options)
    names = ("batch", "heads", "head_dim", "longest", "lengths")
    shapes = {name: getattr(options, name) for name in names}
    shapes |= {"events": sum(lengths), "dtype": str(dtype).removeprefix("torch.")}
    report("packed causal attention", shapes, rows, absent)


def zipf_lengths(batch: int, longest: int) -> list[int]:
    """Lengths 1..longest with probability ~ 1 / length^1.2, one of them the longest."""
    weight = np.arange(1, longest + 1) ** -1.2
    drawn = np.random.default_rng(0).choice(longest, batch - 1, p=weight / weight.sum()) + 1
    return [longest, *drawn.tolist()]


def draw(lengths: list[int], longest: int, options: argparse.Namespace, dtype: torch.dtype) -> Batch:
    """Normal values; gaps between events are lognormal, 10 minutes in the median and 74 on average."""
    generator = torch.Generator().manual_seed(0)
    total, heads = sum(lengths), options.heads

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    query, key, value, gradient = (
        normal(total, heads, options.head_dim).to(options.device, dtype) for _ in range(4)
    )
    gaps = (600 * normal(total).mul(2).exp()).clamp_max(10**7).long()
    happened = torch.cat([history.cumsum(0) for history in torch.split(gaps, lengths)]).clamp_max(2**31 - 1)
    time = torch.stack([happened, happened], 1)
    position_bias, time_bias = (normal(heads, BUCKETS).to(options.device) for _ in range(2))
    return Batch(
        query, key, value, gradient, time.int().to(options.device), position_bias, time_bias, lengths, longest
    )


def contestants(
    batch: Batch, kind: str, biased: bool, options: argparse.Namespace, absent: dict[str, str]
) -> dict[str, Contestant]:
    """Ours, which must be right, and the peers of this kind that compute the same; `absent` gets the others."""
    on_gpu = options.device.startswith("cuda")
    names = ["triton"] if on_gpu else ["reference"]
    names += ["triton"] if interpreted() and options.small else []
    if "triton" in names:
        _prove(kind, biased, options)
    found = {name: ours(batch, kind, biased, name) for name in names}
    builders: dict[str, Callable[[Batch, str, bool], Contestant]] = {
        "sdpa": padded_sdpa,
        "flex": flex,
        "meta": partial(meta, tma=False, folder=options.meta_kernels),
        "meta tma": partial(meta, tma=True, folder=options.meta_kernels),
    }
    for name, build in builders.items():
        if name.split()[0] not in options.peers:
            continue
        label = f"{name} {kind}{' + bias' if biased else ''}"
        try:
            peer = build(batch, kind, biased)
            off = difference(found[names[0]], peer)
        except NotAPeerError as reason:
            absent[label] = str(reason)
        except Exception as reason:  # a stranger's code: whatever it raises, ours is still timed
            absent[label] = f"{type(reason).__name__}: {reason}".splitlines()[0]
        else:
            if off <= PEER_TOLERANCE[batch.query.dtype]:
                found[name] = peer
            else:
                absent[label] = f"computes something else: differs from ours by {off:.2g}"
    return found


def _prove(kind: str, biased: bool, options: argparse.Namespace) -> None:
    """Raises InputError unless the kernels' output and gradients are the fp32 reference's on a small odd batch."""
    dtype = torch.bfloat16 if options.device.startswith("cuda") else torch.float32
    probe = draw(PROBE_LENGTHS, max(PROBE_LENGTHS), options, dtype)
    packed = {name: getattr(probe, name).float() for name in ("query", "key", "value", "gradient")}
    exact = Batch(**{**vars(probe), **packed})
    off = difference(ours(exact, kind, biased, "reference"), ours(probe, kind, biased, "triton"))
    if not off <= TOLERANCE[dtype]:
        raise InputError(f"triton {kind} differs from the reference by {off:.2g}: nothing is timed")


def difference(want: Contestant, got: Contestant) -> float:
    """The norm of the difference over the norm, the largest of the output's and the gradients'."""
    pairs = [(want.pack(want.forward()), got.pack(got.forward()))]
    if got.differentiable:
        mine, theirs = want.backward()(), got.backward()()
        pairs += zip((want.pack(tensor) for tensor in mine[:3]), map(got.pack, theirs[:3]), strict=True)
        pairs += zip(mine[3:], theirs[3:], strict=True)
    return max(
        float((left.detach().float() - right.detach().float()).norm() / left.detach().float().norm())
        for left, right in pairs
    )


def measure(
    found: dict[str, Contestant], batch: Batch, case: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Rows of one case: forward, backward and plan of each contestant, taking turns."""
    heads, head_dim = batch.query.shape[1:]
    pairs = sum(length * (length + 1) // 2 for length in batch.lengths)
    peak, rows = peak_tflops(options.device), []
    passes: tuple[tuple[str, int, dict[str, Callable[[], object] | None]], ...] = (
        ("forward", 4, {name: _no_gradient(one.forward) for name, one in found.items()}),
        (
            "backward",
            10,
            {name: one.backward() if one.differentiable else None for name, one in found.items()},
        ),
        ("plan", 0, {name: one.prepare for name, one in found.items()}),
    )
    for what, products, all_functions in passes:
        functions = {name: function for name, function in all_functions.items() if function}
        times = time_ms(functions, device=options.device, repeats=options.repeats)
        peers = [name for name in times if name not in ("triton", "reference")]
        for name, ms in times.items():
            row: dict[str, Any] = {"implementation": f"{name} {case} {what}", "ms": ms}
            if name not in peers:
                row["peers"] = [f"{peer} {case} {what}" for peer in peers]
            if products:
                flops = products * pairs * heads * head_dim
                row["tflops"] = round(flops / facts.summary(ms)["median"] / 1e9, 3)
                if peak:
                    row["fraction_of_peak"] = round(row["tflops"] / peak, 4)
            rows.append(row)
    return rows


def _no_gradient(forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.no_grad():
            return forward()

    return run


if __name__ == "__main__":
    main()
