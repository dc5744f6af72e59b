"""What ONNX Runtime on a CPU would save of a returning user, were the keys and values of the past events kept.

python benchmarks/prefix_cache.py [--encoder softmax] [--events 50 200 1000 5000] [--rounds 9]

An untrained model, one user, one thread. A graph whose inputs are the keys and values of every layer for the events
that are kept, and the events that are new, beside the graph that reads the whole history; in turn, the states of both
compared. Of the history all but the last three events are kept: the last one of the visit before, whose wait was not
known then, and two new ones. Beside them, how long the list of the catalogue takes.
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from _facts import busy_cores, commit, machine, summary
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.groups import is_plain
from footfall_kernels.attention.padded import _attend
from footfall_kernels.attention.pairs import number
from footfall_kernels.buckets import bucket_by_logarithm
from footfall_kernels.embed_events import reference as embed_events_reference
from footfall_models.config import ModelConfig, Positions
from footfall_models.layouts.layout import Cell, QueryKeyValue
from footfall_models.layouts.padded import PaddedLayout
from footfall_models.model import SequenceModel

NUM_ITEMS, NUM_ACTIONS, WIDTH, LAYERS, HEADS = 8_140, 4, 128, 2, 2
NEW = 3
"""Events that are computed although the others are kept."""
ATOL = 1e-4


@dataclass(frozen=True)
class PrefixLayout:
    """One user's new tokens [1, new, ...] behind a past of which each layer's keys and values [1, past, heads,
    head_dim] are given; time int32 [1, past + new, 2]. `kept` is what the next visit finds.
    """

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    time: Tensor
    picks: bool = False
    kept: list[Tensor] = field(default_factory=list)

    def embed(self, indices: tuple[Tensor, ...], tables: tuple[Tensor, ...], scale: float) -> Tensor:
        return embed_events_reference.embed(indices, tables, scale)

    def positions(self, counted: Positions) -> Tensor:
        """From the first event on."""
        past = self.keys[0].shape[1]
        return torch.arange(past, self.time.shape[1]).unsqueeze(0)

    def attend(self, layer: int, parts: QueryKeyValue) -> Tensor:
        self.kept.extend((parts.key, parts.value))
        key = torch.cat([self.keys[layer], parts.key], dim=1).transpose(1, 2)
        value = torch.cat([self.values[layer], parts.value], dim=1).transpose(1, 2)
        query = parts.query.transpose(1, 2)
        place = torch.arange(key.shape[2])
        asking = place[key.shape[2] - query.shape[2] :]
        distance = (asking.unsqueeze(1) - place).unsqueeze(0)
        extras = Extras(None, self.time, parts.position_bias, parts.time_bias)
        if is_plain(parts.rules, extras):
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=(distance >= 0).unsqueeze(1), scale=parts.rules.scale
            )
            return mixed.transpose(1, 2)
        elapsed = self.time[:, asking, 1].unsqueeze(2) - self.time[:, None, :, 0]
        pair = number(distance, elapsed, distance >= 0, extras.num_buckets, bucket_by_logarithm)
        return _attend(query, key, value, pair, parts.rules, extras).transpose(1, 2)

    def narrow(self) -> "PrefixLayout":
        return replace(self, picks=True)

    def pick(self, tokens: Tensor) -> Tensor:
        return tokens[:, -1:] if self.picks else tokens

    def scan(self, layer: int, cell: Cell, tokens: Tensor, width: int) -> Tensor:
        raise NotImplementedError("what is kept here are keys and values")

    def shift(self, tokens: Tensor, distance: int) -> Tensor:
        raise NotImplementedError("what is kept here are keys and values")

    def filter(self, tokens: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError("what is kept here are keys and values")


def columns(indices: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    item, action, gap, wait = indices.unbind(2)
    return item, action, gap, wait


class Whole(nn.Module):
    """indices int64 [1, events, 4] (item, action, gap, wait), time int32 [1, events, 2] -> the last state."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, indices: Tensor, time: Tensor) -> Tensor:
        length = torch.ones(1, 1, dtype=torch.int64) * indices.shape[1]
        layout = PaddedLayout(time, length, last_only=True)
        return self.model.encode_in(layout, *columns(indices))


class Returning(nn.Module):
    """As Whole, of the new events alone; then key and value of each layer -> the state, and what is to be kept."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, indices: Tensor, time: Tensor, past: list[Tensor]) -> tuple[Tensor, ...]:
        layout = PrefixLayout(past[0::2], past[1::2], time)
        state = self.model.encode_in(layout, *columns(indices))
        return (state, *layout.kept)


class Keeping(nn.Module):
    """The keys and values of a whole history, for the first visit."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, indices: Tensor, time: Tensor) -> tuple[Tensor, ...]:
        empty = [torch.zeros(1, 0, HEADS, WIDTH // HEADS)] * LAYERS
        layout = PrefixLayout(empty, empty, time)
        self.model.encode_in(layout, *columns(indices))
        return tuple(layout.kept)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", choices=("softmax", "hstu"), default="softmax")
    parser.add_argument("--events", type=int, nargs="+", default=[50, 200, 1000, 5000])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    quiet = busy_cores()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options.encoder, max(options.events), Path(scratch))
    rows = [bench.measure(events, options.rounds) for events in options.events]
    print(
        json.dumps(
            {
                "what": "ONNX Runtime, one user who comes back, one thread: the past's keys and values kept",
                "shapes": {
                    "encoder": options.encoder,
                    "num_items": NUM_ITEMS,
                    "width": WIDTH,
                    "layers": LAYERS,
                },
                "new_events": NEW,
                "machine": machine(),
                "commit": commit(),
                "busy_cores_before": quiet,
                "rows": rows,
            }
        )
    )


class Bench:
    """Both graphs of a model of histories up to `longest` events."""

    def __init__(self, encoder: Any, longest: int, scratch: Path) -> None:
        torch.manual_seed(0)
        config = ModelConfig(
            NUM_ITEMS, NUM_ACTIONS, WIDTH, LAYERS, HEADS, max_length=longest, dropout=0.0, encoder=encoder
        )
        self.encoder, self.model = encoder, SequenceModel(config).eval()
        self.table = self.model.item_table().detach().numpy()
        indices, time = history(16)
        self.whole = session(Whole(self.model), scratch / "whole.onnx", (indices, time))
        past = self.past(indices, time)
        self.returning = session(
            Returning(self.model), scratch / "returning.onnx", (indices[:, -NEW:], time, past)
        )

    def past(self, indices: NDArray[np.int64], time: NDArray[np.int32]) -> list[NDArray[np.float32]]:
        """What is kept of all but the new events."""
        with torch.inference_mode():
            kept = Keeping(self.model)(torch.from_numpy(indices), torch.from_numpy(time))
        return [layer[:, :-NEW].contiguous().numpy() for layer in kept]

    def measure(self, events: int, rounds: int) -> dict[str, Any]:
        indices, time = history(events)
        past = self.past(indices, time)
        new = dict(zip(names(self.returning), (indices[:, -NEW:], time, *past), strict=True))
        asked = dict(zip(names(self.whole), (indices, time), strict=True))
        times: dict[str, list[float]] = {"whole_ms": [], "returning_ms": [], "list_ms": []}
        for _ in range(rounds):
            state = timed(times["whole_ms"], lambda: self.whole.run(None, asked)[0]).ravel()
            again = timed(times["returning_ms"], lambda: self.returning.run(None, new)[0]).ravel()
            np.testing.assert_allclose(again, state, atol=ATOL)
            timed(times["list_ms"], partial(best, self.table, state))
        medians = {name: float(np.median(values)) for name, values in times.items()}
        held = sum(layer.nbytes for layer in past)
        print(
            f"{self.encoder}, {events:5} events: whole {medians['whole_ms']:8.2f} ms, returning"
            f" {medians['returning_ms']:6.2f} ms, list {medians['list_ms']:.2f} ms;"
            f" {held / 1024:,.0f} KiB a user",
            flush=True,
        )
        return {"events": events, "kept_bytes": held} | {
            name: summary(values) for name, values in times.items()
        }


def history(events: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """indices and time as Whole takes them."""
    random = np.random.default_rng(events)
    indices = random.integers(1, [NUM_ITEMS, NUM_ACTIONS, 30, 30], (1, events, 4))
    begun = np.cumsum(random.integers(1, 1000, events + 1)).astype(np.int32)
    return indices, np.stack([begun[:-1], begun[1:]], axis=1)[None]


def best(table: NDArray[np.float32], state: NDArray[np.float32]) -> NDArray[Any]:
    return np.argpartition(table @ state, -20)


def names(graph: onnxruntime.InferenceSession) -> list[str]:
    return [one.name for one in graph.get_inputs()]


def timed(times: list[float], run: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    began = time.perf_counter()
    result = run()
    times.append((time.perf_counter() - began) * 1000)
    return result


def session(module: nn.Module, path: Path, example: tuple[Any, ...]) -> onnxruntime.InferenceSession:
    """Exported with the lengths free."""
    tensors = tuple(
        [torch.from_numpy(one) for one in part] if isinstance(part, list) else torch.from_numpy(part)
        for part in example
    )
    free = {1: Dim.DYNAMIC}
    shapes = tuple([free] * len(part) if isinstance(part, list) else free for part in tensors)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    if isinstance(module, Returning):  # always as many new events
        shapes = ({}, free, [free] * len(example[2]))
    torch.onnx.export(
        module.eval(), tensors, path, dynamo=True, dynamic_shapes=shapes, opset_version=23, verbose=False
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
