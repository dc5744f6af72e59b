"""Training speed beside RecTools' SASRec: same events, width, depth, length, batch and full softmax, on the CPU.

    .venv/bin/python benchmarks/train_vs_rectools.py

Both sides train in turn, each in a process of its own, and count what they predict: targets that are not
padding, per second, data loading included. RecTools comes from PyPI into an environment of its own, made once.
The last line of stdout is one JSON object.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from _facts import ROOT, busy_cores, commit, machine, summary

from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_data.splits import training_histories
from footfall_models.config import ModelConfig
from footfall_training.options import TrainOptions
from footfall_training.train import Trainer

SHAPE = {"width": 64, "layers": 2, "heads": 2, "length": 50, "batch": 128, "dropout": 0.2}
RECTOOLS = "rectools[torch]==0.19.0"
WARM_UP_BATCHES = 3
LOG = ROOT.parent / "shared" / "datasets" / "amazon-beauty-2014" / "events.csv.gz"
ENVIRONMENT = Path.home() / ".cache" / "footfall" / "rectools"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, default=LOG, help="the events of amazon-beauty-2014")
    parser.add_argument("--venv", type=Path, default=ENVIRONMENT, help="RecTools' environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rectools-batches", type=int, default=20, help="timed batches a round")
    parser.add_argument("--one-round-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_round_of:
        print(json.dumps(one_epoch(Dataset.open(options.one_round_of))))
    else:
        compare(options.log, rectools_python(options.venv), options.rounds, options.rectools_batches)


def compare(log: Path, python: Path, num_rounds: int, rectools_batches: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder, events = Path(scratch) / "dataset", Path(scratch) / "events.csv"
        prepare([log], folder, PrepareOptions(preset="amazon"))
        dataset = Dataset.open(folder)
        write_events(dataset, events)
        ours = [sys.executable, __file__, "--one-round-of", folder]
        script = Path(__file__).with_name("_rectools_sasrec.py")
        theirs = [python, script, events, json.dumps(SHAPE), str(rectools_batches)]
        rounds, busy = [], []
        for number in range(1, num_rounds + 1):
            busy.append(busy_cores())
            rounds.append({"footfall": timed(ours), "rectools": timed(theirs)})
            speeds = "  ".join(f"{name} {speed:,.0f} events/s" for name, speed in rounds[-1].items())
            print(f"round {number}: {speeds}  (others kept {busy[-1]:.1f} cores busy before it)", flush=True)
        shape = {
            **SHAPE,
            "items": len(dataset.items),
            "loss": "full softmax",
            "threads": torch.get_num_threads(),
        }
    report(rounds, busy, shape)


def report(rounds: list[dict[str, float]], busy: list[float], shape: dict[str, Any]) -> None:
    speeds = {name: summary([one[name] for one in rounds]) for name in ("footfall", "rectools")}
    ratios = summary([one["footfall"] / one["rectools"] for one in rounds])
    result = {
        "what": "training targets a second, Footfall beside RecTools 0.19.0 SASRec, amazon-beauty-2014",
        "shape": shape,
        **{f"{name}_events_per_second": speed for name, speed in speeds.items()},
        "ratio": ratios,
        "busy_cores_before_rounds": busy,
        "torch": torch.__version__,
        "machine": machine(),
        "commit": commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    print(f"Footfall trains {ratios['median']:.1f} times the events of RecTools a second")
    print(json.dumps(result))


def one_epoch(dataset: Dataset) -> dict[str, float]:
    """Events and seconds of one epoch's batches, after warm-up."""
    config = ModelConfig(
        num_items=len(dataset.items),
        num_actions=len(dataset.actions),
        width=int(SHAPE["width"]),
        num_layers=int(SHAPE["layers"]),
        num_heads=int(SHAPE["heads"]),
        max_length=int(SHAPE["length"]),
        dropout=SHAPE["dropout"],
    )
    options = TrainOptions(batch_size=int(SHAPE["batch"]), loss="full")
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(dataset, Path(scratch), config, options)
    trainer.model.train()
    events, began = 0, 0.0
    for number, batch in enumerate(trainer.windows.epoch(options.batch_size, seed=0, epoch=0), start=1):
        trainer.step(batch)
        events += len(batch.next_item)
        if number == WARM_UP_BATCHES:
            events, began = 0, time.perf_counter()
    return {"events": events, "seconds": time.perf_counter() - began}


def timed(command: list[Any]) -> float:
    """Events a second of one round, from the JSON line its process prints last."""
    run = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(run.stdout.splitlines()[-1])
    return float(result["events"] / result["seconds"])


def write_events(dataset: Dataset, path: Path) -> None:
    """The events Footfall trains on, in its order; RecTools sorts them by time and keeps ties in order."""
    training = training_histories(dataset, "leave_one_out")
    times = training.time.astype("datetime64[ms]").astype(str)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "item_id", "datetime"))
        for user in range(training.num_users):
            for place in range(training.offsets[user], training.offsets[user + 1]):
                writer.writerow((user, training.item[place], times[place]))


def rectools_python(environment: Path) -> Path:
    """The Python of RecTools' environment; makes it where it is not there yet."""
    python = environment / "bin" / "python"
    if (environment / ".ready").exists():
        return python
    print(f"installing {RECTOOLS} from PyPI into {environment}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "numpy<2"]
    pin = f"torch=={torch.__version__.partition('+')[0]}"
    # torch first and by name, so that RecTools is resolved around the build that is installed here.
    subprocess.run([*pip, pin], check=True)
    subprocess.run([*pip, pin, RECTOOLS], check=True)
    (environment / ".ready").touch()
    return python


if __name__ == "__main__":
    main()
