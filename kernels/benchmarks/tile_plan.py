"""Classes of the tiles of one history, and the time of classing them; see footfall_kernels/attention/tile_plan.py.

    TRITON_INTERPRET=1 python kernels/benchmarks/tile_plan.py [--lengths 2048 8192]

Tiles are those of sm_90 at head_dim 64, with both tables; the history is that of attention.py. Needs no GPU: the
shares are the same in the interpreter, the times are not. The last line is JSON.
"""

import argparse

import torch
from _peers import BUCKETS
from _timing import report, time_ms
from attention import draw
from torch import Tensor

from footfall_kernels.attention.configurations import backward_configuration, forward_configuration
from footfall_kernels.attention.rules import AttentionRules
from footfall_kernels.attention.tile_plan import TileLists, TileShape, list_tiles

ARCH, HEAD_DIM = 90, 64
CLASSES = ("uniform", "stepped", "mixed")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    options.heads, options.head_dim = 1, HEAD_DIM
    rows = []
    for length in options.lengths:
        time = draw([length], length, options, torch.float32).time
        for by_key in (False, True):
            name = f"{length} events by {'key' if by_key else 'query'}"

            def plan(time: Tensor = time, by_key: bool = by_key) -> TileLists:
                return _plan(time, by_key=by_key)

            times = time_ms({name: plan}, device=options.device, repeats=options.repeats)
            counts = plan().counts.sum(0).double()
            shares = [round(share, 3) for share in (counts / counts.sum()).tolist()]
            rows.append(
                {"implementation": name, "ms": times[name], **dict(zip(CLASSES, shares, strict=True))}
            )
    report("classes of tiles", {"arch": ARCH, "head_dim": HEAD_DIM, "buckets": BUCKETS}, rows, {})


def _plan(time: Tensor, *, by_key: bool) -> TileLists:
    configure = backward_configuration if by_key else forward_configuration
    configuration = configure(ARCH, HEAD_DIM, torch.bfloat16)
    return list_tiles(
        torch.tensor([0, len(time)], device=time.device),
        len(time),
        AttentionRules("silu", 1.0),
        TileShape(configuration.queries, configuration.keys),
        by_key=by_key,
        num_candidates=None,
        time=time,
        num_position_buckets=BUCKETS,
        num_time_buckets=BUCKETS,
        total=len(time),
    )


if __name__ == "__main__":
    main()
