"""One training step of the sampled loss over a large catalogue, beside the same step over the whole item table.

    python benchmarks/sampled_step.py [--items 1000000] [--width 64] [--rounds 9]

The peer is what it replaces: the whole table brought to unit length, its dense gradient clipped, AdamW over all. Both
step by the same batches in turn, in one process. The last line of stdout is one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars
import torch
from _facts import busy_cores, commit, machine, summary

from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_kernels.linear_cross_entropy.linear_cross_entropy import linear_cross_entropy
from footfall_models.config import ModelConfig
from footfall_models.heads.head import NextEvents
from footfall_models.model import SequenceModel
from footfall_training.batches import Batch
from footfall_training.negatives import Negatives
from footfall_training.options import TrainOptions
from footfall_training.touched import Touched
from footfall_training.train import Trainer

EVENTS_A_USER = 60
WARM_UP_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    busy, options = busy_cores(), TrainOptions(loss="sampled")
    with tempfile.TemporaryDirectory() as scratch:
        dataset = every_item_about_once(chosen.items, Path(scratch))
        config = ModelConfig(len(dataset.items), len(dataset.actions), width=chosen.width)
        trainer = Trainer(dataset, Path(scratch), config, options)
        trainer.model.train()
        negatives = Negatives(np.bincount(dataset.histories.item), options.num_negatives)
        dense = DenseStep(config, options, negatives)
        sides: dict[str, Callable[[Batch], object]] = {"touched": trainer.step, "dense": dense.step}
        batches = trainer.windows.epoch(options.batch_size, seed=0, epoch=0)
        rounds = [timed(sides, next(batches)) for _ in range(WARM_UP_STEPS + chosen.rounds)][WARM_UP_STEPS:]
        rows = Touched.by(next(batches), negatives).rows
    assert rows is not None
    milliseconds = {name: summary([one[name] for one in rounds]) for name in sides}
    ratio = summary([one["dense"] / one["touched"] for one in rounds])
    result: dict[str, Any] = {
        "what": "milliseconds of one training step of the sampled loss: what it touches, beside the whole item table",
        "shape": {
            "items": config.num_items,
            "width": config.width,
            "batch": options.batch_size,
            "negatives": options.num_negatives,
            "rows_touched": len(rows),
            "threads": torch.get_num_threads(),
        },
        "milliseconds": milliseconds,
        "dense_to_touched": ratio,
        "busy_cores_before": busy,
        "torch": torch.__version__,
        "machine": machine(),
        "commit": commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for name, time_ in milliseconds.items():
        print(f"{name:8} {time_['median']:9.1f} ms a step ({time_['min']:.1f} to {time_['max']:.1f})")
    print(f"the whole table takes {ratio['median']:.1f} times as long")
    print(json.dumps(result))


class DenseStep:
    """The step that passes over the whole table."""

    def __init__(self, config: ModelConfig, options: TrainOptions, negatives: Negatives) -> None:
        self._options, self._negatives = options, negatives
        self._model = SequenceModel(config).train()
        self._model.for_training(torch.ones(config.num_items + 1, dtype=torch.bool))
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), options.learning_rate, weight_decay=options.weight_decay, fused=True
        )

    def step(self, batch: Batch) -> None:
        table = self._model.item_table()
        hidden = self._model.encode(batch.inputs, "reference", table)
        negative, log_q = self._negatives.draw(), self._negatives.log_expected
        item = linear_cross_entropy(
            hidden, table, batch.next_item, implementation="reference", negative=negative, log_q=log_q
        )
        action = self._model.head("action").loss(hidden, NextEvents(batch.next_item, batch.next_action))
        self._optimizer.zero_grad()
        torch.autograd.backward(item + self._options.head_weight * action)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._options.max_grad_norm)
        self._optimizer.step()


def timed(sides: dict[str, Callable[[Batch], object]], batch: Batch) -> dict[str, float]:
    """Milliseconds of each side's step."""
    found = {}
    for name, step in sides.items():
        began = time.perf_counter()
        step(batch)
        found[name] = 1e3 * (time.perf_counter() - began)
    return found


def every_item_about_once(num_items: int, folder: Path) -> Dataset:
    """As many rows as a batch can touch: of its events nearly each is of an item of its own."""
    random = np.random.default_rng(0)
    num_events = -(-num_items * 6 // 5 // EVENTS_A_USER) * EVENTS_A_USER
    again = random.integers(0, num_items, num_events - num_items)
    place = np.arange(num_events)
    events = {
        "user_id": place // EVENTS_A_USER,
        "item_id": random.permutation(np.concatenate([np.arange(num_items), again])),
        "timestamp": 1_700_000_000 + 3600 * (place % EVENTS_A_USER),
    }
    polars.DataFrame(events).write_parquet(folder / "events.parquet")
    prepare([folder / "events.parquet"], folder / "dataset", PrepareOptions(k_core=1))
    return Dataset.open(folder / "dataset")


if __name__ == "__main__":
    main()
