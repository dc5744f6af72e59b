"""CapturedPasses: passes over packed histories as CUDA graphs, so that a small batch does not wait for launches."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from footfall.history import bucket_width
from footfall_models.inputs import PackedInputs
from footfall_models.layouts.caching import Kept

LEAST_EVENTS = 256
LEAST_USERS = 8
WARM_UP_PASSES = 3
"""As torch.cuda.make_graphed_callables does; the first of them compiles the kernels."""

Pass = tuple[Tensor, Kept]
"""The last states [users, width], and what a cache may keep of every layer."""


@dataclass(frozen=True)
class _Capture:
    graph: torch.cuda.CUDAGraph
    inputs: PackedInputs
    outputs: Pass


class CapturedPasses:
    """Runs `encode` on padded copies of its inputs: one graph for each size, captured when first met.

    What it returns is overwritten by the next pass of that size.
    """

    def __init__(self, encode: Callable[[PackedInputs], Pass]) -> None:
        self._encode = encode
        self._captures: dict[tuple[int, int], _Capture] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, inputs: PackedInputs) -> Pass:
        padded = pad_inputs(inputs)
        size = (len(padded.item), len(padded.offsets))
        if size not in self._captures:
            self._captures[size] = self._capture(padded)
        capture = self._captures[size]
        for static, given in zip(vars(capture.inputs).values(), vars(padded).values(), strict=True):
            static.copy_(given)
        capture.graph.replay()
        return capture.outputs

    def _capture(self, inputs: PackedInputs) -> _Capture:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_PASSES):
                self._encode(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = self._encode(inputs)
        return _Capture(graph, inputs, outputs)


def pad_inputs(inputs: PackedInputs) -> PackedInputs:
    """Events and users each to a power of two; the events added are of no user, the users added have none."""
    events = max(bucket_width(len(inputs.item)), LEAST_EVENTS)
    users = max(bucket_width(len(inputs.offsets) - 1), LEAST_USERS)
    columns = {name: _pad(column, events, 0) for name, column in vars(inputs).items() if name != "offsets"}
    return PackedInputs(**columns, offsets=_pad(inputs.offsets, users + 1, len(inputs.item)))


def _pad(column: Tensor, length: int, value: int) -> Tensor:
    return torch.cat([column, column.new_full((length - len(column), *column.shape[1:]), value)])
