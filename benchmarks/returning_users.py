"""What the torch engine saves on users who come back: one batch with its cache and without, in turn.

    .venv/bin/python benchmarks/returning_users.py --events 1000

Every user returns with a few events more than at the last visit; both engines have the same random weights and give
the same answers. The last line of stdout is one JSON object.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from _facts import busy_cores, commit, machine, summary

from footfall.history import ModelInput
from footfall_engines.batch import Batch, IndexLists, Scores
from footfall_engines.torch_engine import TorchEngine
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel

CACHE_BYTES = 1 << 30
WARM_UP_VISITS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", choices=("softmax", "hstu"), default="hstu")
    parser.add_argument("--events", type=int, default=1000, help="of a history at the first visit")
    parser.add_argument("--new", type=int, default=3, help="events more at every visit")
    parser.add_argument("--users", type=int, default=8, help="in a batch")
    parser.add_argument("--visits", type=int, default=10, help="timed")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    total = options.events + options.new * (options.visits + WARM_UP_VISITS)
    config = ModelConfig(
        options.items, 4, width=options.width, max_length=total, encoder=options.encoder, dropout=0.0
    )
    engines = {
        name: engine(config, options.device, size) for name, size in (("cache", CACHE_BYTES), ("none", 0))
    }
    events = np.random.default_rng(0).integers(
        (1, 1, 1, 1, 1), (options.items, 5, 40, 40, 900), (options.users, total + 1, 5)
    )
    time = events[:, :, 4].cumsum(axis=1)
    events = np.concatenate([events[:, :-1, :4], time[:, :-1, None], time[:, 1:, None]], axis=2)
    busy = busy_cores()
    times: dict[str, list[float]] = {name: [] for name in engines}
    for visit in range(WARM_UP_VISITS + options.visits):
        batch = visit_of(events[:, : options.events + options.new * visit])
        answers = {name: timed(each, batch, times[name]) for name, each in engines.items()}
        np.testing.assert_allclose(answers["cache"].user_vector, answers["none"].user_vector, atol=1e-3)
    timed_visits = {name: values[WARM_UP_VISITS:] for name, values in times.items()}
    ratios = [none / cache for none, cache in zip(timed_visits["none"], timed_visits["cache"], strict=True)]
    for name, values in timed_visits.items():
        print(f"{name:6} {summary(values)['median']:8.2f} ms a batch")
    result: dict[str, Any] = {
        "what": "torch engine on returning users, milliseconds a batch with its cache and without",
        "shape": vars(options) | {"layers": config.num_layers, "heads": config.num_heads},
        "machine": machine(),
        "commit": commit(),
        "busy_cores": busy,
        "milliseconds": {name: summary(values) for name, values in timed_visits.items()},
        "times_faster": summary(ratios),
    }
    print(json.dumps(result))


def engine(config: ModelConfig, device: str, cache_bytes: int) -> TorchEngine:
    torch.manual_seed(0)
    return TorchEngine(SequenceModel(config), 20, "fp32", device, cache_bytes=cache_bytes)


def visit_of(events: Any) -> Batch:
    """[users, events, 6] -> a batch in which every user gives a name."""
    users, length = events.shape[:2]
    columns = events.reshape(-1, 6).T.astype(np.int32)
    history = ModelInput.of(columns, np.arange(users + 1) * length)
    nothing = IndexLists.of([np.zeros(0, np.int32)] * users)
    return Batch(history, nothing, nothing, tuple(b"user %d" % user for user in range(users)))


def timed(engine: TorchEngine, batch: Batch, times: list[float]) -> Scores:
    began = time.perf_counter()
    scores = engine.score(batch)
    times.append((time.perf_counter() - began) * 1000)
    return scores


if __name__ == "__main__":
    main()
