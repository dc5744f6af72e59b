"""What a catalogue of a million costs: milliseconds a batch, memory of each process, and the start of a server.

    .venv/bin/python benchmarks/large_catalogue.py

A log in which every item occurs, a checkpoint of random weights (training changes no cost), exported for ONNX
Runtime. Beside the engine the same graph as it was before, in the same process and in turn: masks over the
catalogue, the table inside the file. Memory: two processes that load the one or the other and answer, and then every
process of a server that was asked. The last line of stdout is one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import psutil
import torch
from _facts import busy_cores, commit, machine, summary
from numpy.typing import NDArray

from footfall.contract import DEFAULT_TOP_K, ENGINE_INPUTS
from footfall.history import Asked, model_input, newest, slices
from footfall_client import Client, Event
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_engines.batch import Batch, IndexLists, padded_inputs
from footfall_engines.engine import load_engine
from footfall_engines.repository import Repository
from footfall_engines.version import Version
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_export.to_onnx import write_onnx
from footfall_models.config import ModelConfig
from footfall_models.graph import RankerGraph
from footfall_models.model import SequenceModel
from footfall_serving.publish import publish
from footfall_serving.server import running_server
from footfall_training.checkpoint import Checkpoint, save_checkpoint
from footfall_training.options import TrainOptions

EVENTS = 50
CANDIDATES = 32
MOST = 100
"""The longest list."""
MINUTE_MS = 60_000
MIB = 1 << 20
INSTANCES = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--starts", type=int, default=3, help="of a server")
    parser.add_argument("--hold", nargs=2, metavar=("KIND", "PLACE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold:
        hold(options.hold[0], Path(options.hold[1]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(measure(Path(scratch), options)))


def measure(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    dataset = make_version(place, options.items, options.width)
    busy = busy_cores()
    batches = time_batches(place, options.rounds)
    processes = {kind: memory_of_instances(kind, place) for kind in ("before", "now")}
    server = time_server(place, dataset, options.starts)
    for row in batches:
        print(
            f"{row['users']:2} users, {row['candidates']:2} candidates, the {row['top_k']:3} best:"
            f" {row['now_ms']['median']:6.2f} ms, before {row['before_ms']['median']:6.2f}"
        )
    for kind, held in processes.items():
        print(f"{kind}: of {INSTANCES} processes with an engine each takes {held} MiB")
    print(f"server: starts in {server['start_s']['median']:.1f} s")
    for name, held in server["processes_mib"].items():
        print(f"  {name}: {held}")
    return {
        "what": "a catalogue of a million: onnxruntime fp32, one thread",
        "shapes": {"items": options.items, "width": options.width, "events": EVENTS},
        "machine": machine(),
        "commit": commit(),
        "busy_cores": busy,
        "batches": batches,
        "processes_mib": processes,
        "server": server,
    }


def make_version(place: Path, num_items: int, width: int) -> Dataset:
    """Version 1 of place/repository, place/before.onnx and the data set."""
    random = np.random.default_rng(0)
    item = random.permutation(num_items)[: num_items // EVENTS * EVENTS]
    user, event = np.divmod(np.arange(len(item)), EVENTS)
    start = 1_700_000_000_000
    time_ms = start + MINUTE_MS * event + user
    ids = np.char.add("item-", np.char.zfill(item.astype(str), 8))
    log = pl.DataFrame({"user_id": user, "item_id": ids, "timestamp": time_ms})
    log.write_parquet(place / "log.parquet")
    prepare([place / "log.parquet"], place / "dataset", PrepareOptions(k_core=1))
    dataset = Dataset.open(place / "dataset")
    torch.manual_seed(0)
    config = ModelConfig(len(dataset.items), len(dataset.actions), width=width, max_length=EVENTS)
    model = SequenceModel(config).eval()
    model.item_popularity.copy_(torch.rand(len(model.item_popularity)))
    samples = Asked(slices(dataset.histories, *_first(dataset, 64)), dataset.histories.time[:64])
    samples = Asked(newest(samples.histories, EVENTS), samples.now)
    save_checkpoint(place / "checkpoint", model, dataset, samples, {}, TrainOptions())
    export(place / "checkpoint", place / "repository", ExportOptions())
    publish(Repository(place / "repository").version_folder(1))
    write_before(place / "checkpoint", place / "before.onnx")
    return dataset


def write_before(checkpoint: Path, path: Path) -> None:
    """The graph of masks with the table inside, a constant, much as it was up to commit 728630f."""
    write_onnx(RankerGraph(Checkpoint.open(checkpoint).load_model(), 100), path, target="tensorrt")
    model = onnx.load(path)
    inputs = [value for value in model.graph.input if value.name in {one.name for one in ENGINE_INPUTS}]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, path)


def _first(dataset: Dataset, users: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the histories of the first users begin and end."""
    return dataset.histories.offsets[:users], dataset.histories.offsets[1 : users + 1]


def batch_of(dataset: Dataset, users: int, candidates: int, top_k: int = DEFAULT_TOP_K) -> Batch:
    """Whole histories, all that they hold excluded."""
    histories = slices(dataset.histories, *_first(dataset, users))
    seen = np.split(histories.item, histories.offsets[1:-1])
    wanted = np.random.default_rng(0).integers(1, len(dataset.items), (users, candidates)).astype(np.int32)
    now = histories.time[histories.offsets[1:] - 1]
    inputs = model_input(histories, now, EVENTS)
    return Batch(inputs, IndexLists.of(seen), IndexLists.of(list(wanted)), top_k=top_k)


def scorers(place: Path) -> dict[str, Callable[[], Callable[[Batch], NDArray[np.float32]]]]:
    """What loads the engine, or the graph as it was; each gives the scores of a batch."""

    def before() -> Callable[[Batch], NDArray[np.float32]]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            place / "before.onnx", options, providers=["CPUExecutionProvider"]
        )
        return lambda batch: session.run(["item_score"], padded_inputs(batch, EVENTS))[0][:, : batch.top_k]

    def now() -> Callable[[Batch], NDArray[np.float32]]:
        engine = load_engine(Version.open(place / "repository" / "ranker" / "1"))
        return lambda batch: engine.score(batch).item_score

    return {"before": before, "now": now}


def time_batches(place: Path, rounds: int) -> list[dict[str, Any]]:
    dataset = Dataset.open(place / "dataset")
    score = {kind: load() for kind, load in scorers(place).items()}
    rows = []
    for users in (1, 4, 16):
        for candidates, top_k in ((0, DEFAULT_TOP_K), (0, MOST), (CANDIDATES, DEFAULT_TOP_K)):
            batch = batch_of(dataset, users, candidates, top_k)
            times: dict[str, list[float]] = {kind: [] for kind in score}
            for _ in range(rounds + 1):
                scores = {}
                for kind, answer in score.items():
                    began = time.perf_counter()
                    scores[kind] = answer(batch)
                    times[kind].append((time.perf_counter() - began) * 1000)
                np.testing.assert_allclose(scores["now"], scores["before"], atol=1e-3)
            ratios = [old / new for old, new in zip(times["before"][1:], times["now"][1:], strict=True)]
            timed = {f"{kind}_ms": summary(values[1:]) for kind, values in times.items()}
            rows.append(
                {
                    "users": users,
                    "candidates": candidates,
                    "top_k": top_k,
                    **timed,
                    "times_faster": summary(ratios),
                }
            )
    return rows


def hold(kind: str, place: Path) -> None:
    """Load, answer one user and sixteen, and wait until the caller closes stdin."""
    dataset = Dataset.open(place / "dataset")
    score = scorers(place)[kind]()
    for users in (1, 16):
        score(batch_of(dataset, users, 0))
    print("ready", flush=True)
    sys.stdin.read()


def memory_of_instances(kind: str, place: Path) -> dict[str, int]:
    """Of one of INSTANCES processes that hold the same engine, on average."""
    command = [sys.executable, __file__, "--hold", kind, str(place)]
    held = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(INSTANCES)
    ]
    try:
        for process in held:
            assert process.stdout is not None
            process.stdout.readline()
        each = [memory(process.pid) for process in held]
    finally:
        for process in held:
            process.communicate()
    return {name: round(np.mean([one[name] for one in each])) for name in each[0]}


def memory(pid: int) -> dict[str, int]:
    """MiB of a process: resident, its share of that, what it alone holds, and what it maps of files."""
    fields = {"Rss": 0, "Pss": 0, "Private_Clean": 0, "Private_Dirty": 0, "Anonymous": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in fields:
            fields[name] = int(value.split()[0]) >> 10
    resident, private = fields["Rss"], fields["Private_Clean"] + fields["Private_Dirty"]
    return {
        "resident": resident,
        "proportional": fields["Pss"],
        "private": private,
        "anonymous": fields["Anonymous"],
    }


def time_server(place: Path, dataset: Dataset, starts: int) -> dict[str, Any]:
    ids = [id_.decode() for id_ in dataset.items.ids(dataset.histories.item[:EVENTS].tolist())]
    history = [Event(id_, time=int(at)) for id_, at in zip(ids, dataset.histories.time[:EVENTS], strict=True)]
    seconds, processes = [], {}
    for _ in range(starts):
        began = time.perf_counter()
        with running_server(place / "repository") as state:
            seconds.append(time.perf_counter() - began)
            with Client(state.grpc_url, timeout=30) as client:
                for _ in range(20):
                    client.recommend(history)
                client.score(history, ids[:CANDIDATES])
            processes = {
                name_of(process): memory(process.pid) for process in psutil.Process().children(recursive=True)
            }
    return {"start_s": summary(seconds), "processes_mib": processes}


def name_of(process: psutil.Process) -> str:
    """A step by its name, another process by its number and program."""
    steps = [word for word in process.cmdline() if word.endswith("_0_0")]
    return steps[0] if steps else f"{process.pid} {process.name()}"


if __name__ == "__main__":
    main()
