"""What is left of a server that is asked three times what it can answer: with inferences bounded and without.

python benchmarks/overload.py [--seconds 10] [--rounds 3] [--bounds 0 128]

An untrained model, histories of 20 events. Each server is first asked by 64 callers in closed loops, of whom none may
fail; that is its capacity. Then requests come at random moments, three times as many a second, whatever becomes of
the ones before, each with a deadline of 1 s and the client's retries and pauses. A request is good if its answer
comes within 1 s of when it was to be sent. A bound is what may be under way at once; 0 is none. What the supervisor
said meanwhile must be nothing.

Caller, door and server share the machine's cores, in both measurements. So the caller is one that costs little
(_asker.py), and what each of them costs in processor time is told: the caller an attempt, the door an attempt, the
server and its stubs an answer.
"""

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
import uvloop
from _asker import closed_loop, open_loop
from _facts import busy_cores, commit, cpu_s, machine, summary
from door import door_of
from serve import make_histories, shapes
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from footfall.contract import ENSEMBLE, MAX_INFERENCES
from footfall.history import Asked, newest
from footfall_client import Event
from footfall_client._codec import encode
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_data.shop.options import SimulateOptions
from footfall_data.shop.simulate import simulate
from footfall_engines.repository import Repository
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel
from footfall_serving.server import ANY_PORTS, running_server
from footfall_serving.state import ServerState
from footfall_training.checkpoint import save_checkpoint
from footfall_training.evaluation.ranking import Targets
from footfall_training.options import TrainOptions

EVENTS, WIDTH = 20, 256
DEADLINE_S = 1.0
TIMES_CAPACITY = 3
CLIENTS = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bounds", type=int, nargs="+", default=[0, MAX_INFERENCES])
    parser.add_argument("--client", nargs=3, metavar=("KIND", "URL", "DATASET"), help=argparse.SUPPRESS)
    parser.add_argument("--load", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        kind, url, dataset = options.client
        histories = make_histories(Dataset.open(Path(dataset)), EVENTS)
        messages, load = [encoded(history) for history in histories], options.load
        if kind == "closed":
            work = closed_loop(url, messages, int(load), options.seconds)
        else:
            work = open_loop(url, messages, load, options.seconds, DEADLINE_S)
        print(json.dumps(uvloop.run(work)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(measure(Path(scratch), options.bounds, options.rounds, options.seconds)))


def measure(scratch: Path, bounds: Sequence[int], rounds: int, seconds: float) -> dict[str, Any]:
    dataset, repository = make_repository(scratch)
    quiet = busy_cores()
    rows: dict[int, list[dict[str, Any]]] = {bound: [] for bound in bounds}
    for turn in range(rounds):
        for bound in bounds if turn % 2 == 0 else reversed(bounds):
            row = one(repository, dataset, bound, seconds)
            rows[bound].append(row)
            print(
                f"bound {bound or 'none':>4}: capacity {row['capacity_per_second']:,.0f} requests/s,"
                f" {row['closed_failures']} of {row['closed_requests']} failed; of {row['offered_per_second']:,.0f}/s"
                f" {row['good_per_second']:,.0f} good, {row['good_of_capacity']:.1%} of the capacity, p99 of these"
                f" {row['good_p99_ms']:.0f} ms; memory +{row['memory_growth_mib']:.0f} to"
                f" {row['memory_peak_mib']:.0f} MiB; {row['failures']} {row['supervisor_said']}; processor: caller"
                f" {row['client_us']:.0f} us an attempt ({row['client_cores']:.2f} cores), door"
                f" {row['door_us']:.0f} us an attempt, server {row['server_us']:.0f} us an answer",
                flush=True,
            )
    return {
        "what": f"goodput at {TIMES_CAPACITY} times the capacity, deadlines of {DEADLINE_S:g} s, over gRPC",
        "shapes": shapes(repository) | {"events": EVENTS},
        "machine": machine(),
        "commit": commit(),
        "busy_cores_before": quiet,
        "bounds": [{"bound": bound, **summed_up(of)} for bound, of in rows.items()],
    }


def make_repository(scratch: Path) -> tuple[Dataset, Path]:
    """Version 1 of an untrained model, live."""
    simulate(scratch / "shop", SimulateOptions(events=100_000, users=2_000, items=12_000, seed=1))
    prepare([scratch / "shop" / "events"], scratch / "dataset", PrepareOptions())
    dataset, repository = Dataset.open(scratch / "dataset"), scratch / "model_repository"
    torch.manual_seed(0)
    model = SequenceModel(
        ModelConfig(len(dataset.items), len(dataset.actions), width=WIDTH, max_length=EVENTS)
    )
    asked = Targets.of(dataset, "leave_one_out", "validation", 64)
    samples = Asked(newest(asked.histories, EVENTS), asked.now)
    save_checkpoint(scratch / "checkpoint", model, dataset, samples, {}, TrainOptions())
    export(scratch / "checkpoint", repository, ExportOptions())
    version = Repository(repository).version(1)
    Repository(repository).write_configs([version], version)
    return dataset, repository


def summed_up(rows: list[dict[str, Any]]) -> dict[str, Any]:
    figures = [name for name, value in rows[0].items() if isinstance(value, int | float)]
    return {
        **{name: summary([row[name] for row in rows]) for name in figures},
        "failures": [row["failures"] for row in rows],
        "supervisor_said": [row["supervisor_said"] for row in rows],
    }


def one(repository: Path, dataset: Dataset, bound: int, seconds: float) -> dict[str, Any]:
    """One server with this bound, under closed loops and then overloaded."""
    said: list[str] = []
    options = dataclasses.replace(ANY_PORTS, max_inferences=bound or 10**9)
    with running_server(repository, options, said.append) as server:
        closed = run_client("closed", server.grpc_url, dataset, CLIENTS, seconds / 2)
        capacity = closed["requests_per_second"]
        with Memory(server.pid) as memory, Work(server) as work:
            row = run_client("open", server.grpc_url, dataset, TIMES_CAPACITY * capacity, seconds)
    return row | {
        "capacity_per_second": capacity,
        "good_of_capacity": row["good_per_second"] / capacity,
        "closed_client_us": closed["client_us"],
        "door_us": work.door_s / row["attempts"] * 1e6,
        "server_us": work.server_s / max(row["answers"], 1) * 1e6,
        "memory_growth_mib": memory.peak - memory.before,
        "memory_peak_mib": memory.peak,
        "closed_requests": closed["requests"],
        "closed_failures": closed["failures"],
        "supervisor_said": said,
    }


def run_client(kind: str, url: str, dataset: Dataset, amount: float, seconds: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--seconds", str(seconds), "--load", str(amount)]
    command += ["--client", kind, url, str(dataset.folder)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def encoded(history: list[Event]) -> bytes:
    """The message that the client sends, with gRPC's prefix."""
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
    for tensor, values in encode(history, None, None, True, None, None):
        request.inputs.add(name=tensor.name, datatype=tensor.data_type, shape=values.shape)
        is_text = tensor.data_type == "BYTES"
        request.raw_input_contents.append(
            serialize_byte_tensor(values).item() if is_text else values.tobytes()
        )
    message = bytes(request.SerializeToString())
    return b"\0" + len(message).to_bytes(4, "big") + message


class Work:
    """Processor seconds of the door, and of the server with its stubs, while the block ran."""

    def __init__(self, server: ServerState) -> None:
        self._door, self._server = door_of(server).pid, server.pid

    def __enter__(self) -> "Work":
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.door_s, self.server_s = (
            after - before for after, before in zip(self._now(), self._before, strict=True)
        )

    def _now(self) -> tuple[float, float]:
        return cpu_s(self._door), cpu_s(self._server)


class Memory:
    """What the server and its stubs hold (PSS, so that what they share counts once), in MiB: before, and the peak."""

    def __init__(self, pid: int) -> None:
        self._server = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Memory":
        self.before = self.peak = self._held()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.peak = max(self.peak, self._held())

    def _held(self) -> float:
        """0 where the server is gone."""
        held = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (self._server, *self._server.children(recursive=True)):
                held += process.memory_full_info().pss / 2**20
        return held


if __name__ == "__main__":
    main()
