"""How fast the served ensemble answers: requests/s, p50 and p99 over gRPC, and where the time goes.

python benchmarks/serve.py [--seconds 4]

Simulates a shop, trains for one epoch, exports to ONNX Runtime and starts the real server. One asyncio client in
a process of its own keeps 1, 8 or 32 requests in flight, with histories of 10, 50 and 200 events. Beside each
figure: the engine alone, called in this process, and the same client's readiness call, the floor of any call.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from _facts import busy_cores, commit, machine, summary
from numpy.typing import NDArray

from footfall.contract import DEFAULT_TOP_K, GRPC_KEY_HEADER, RECOMMENDER
from footfall.history import model_input, slices
from footfall_client import AsyncClient, Event
from footfall_data.dataset import Dataset
from footfall_engines.batch import Batch, IndexLists
from footfall_engines.engine import load_engine
from footfall_engines.repository import Repository
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

FOOTFALL = str(Path(sys.executable).with_name("footfall"))
CLIENTS = (1, 8, 32)
HOUR_MS = 3_600_000
LENGTHS = (10, 50, 200)
ENGINE_CALLS = 200


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument(
        "--client", nargs=4, metavar=("URL", "DATASET", "CLIENTS", "LENGTH"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.client:
        url, dataset, clients, length = options.client
        print(json.dumps(asyncio.run(load(url, Path(dataset), int(clients), int(length), options.seconds))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(measure(Path(scratch), options.seconds)))


def measure(scratch: Path, seconds: float) -> dict[str, Any]:
    dataset, repository = make_repository(scratch)
    engine_ms = {length: engine_alone(repository, dataset, length) for length in LENGTHS}
    quiet = busy_cores()
    rows = []
    with running_server(repository) as server:
        for clients in CLIENTS:
            for length in LENGTHS:
                row = one(server, dataset, clients, length, seconds)
                row["engine_alone_ms"] = engine_ms[length]
                rows.append(row)
                print(
                    f"{clients:3} clients, {length:3} events: {row['requests_per_second']:6,.0f} requests/s,"
                    f" p50 {row['p50_ms']:6.2f} ms, p99 {row['p99_ms']:6.2f} ms; step {row['step_ms']:.2f} ms"
                    f" (engine alone {engine_ms[length]['median']:.2f} ms), queue {row['step_queue_ms']:.2f} ms;"
                    f" {row['p50_to_floor']:.1f} x a readiness call; failures {row['failures']}"
                )
    return {
        "what": "served ensemble over gRPC, onnxruntime fp32",
        "shapes": shapes(repository),
        "machine": machine(),
        "commit": commit(),
        "busy_cores_before": quiet,
        "rows": rows,
    }


def make_repository(scratch: Path) -> tuple[Dataset, Path]:
    shop, data, checkpoint = scratch / "shop", scratch / "dataset", scratch / "checkpoint"
    repository = scratch / "model_repository"
    for arguments in (
        # So few users that hundreds of them have the longest history asked for.
        ("simulate", shop, "--events", "500000", "--items", "12000", "--users", "2500"),
        ("prepare", shop / "events", "--out", data),
        ("train", data, "--out", checkpoint, "--epochs", "1", "--max-length", "200"),
        ("export", checkpoint, "--repository", repository),
        ("publish", repository / "ranker" / "1"),
    ):
        command = [FOOTFALL, *map(str, arguments)]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return Dataset.open(data), repository


def shapes(repository: Path) -> dict[str, Any]:
    """Sizes of what is served."""
    manifest = Repository(repository).version(1).manifest
    return {"top_k": DEFAULT_TOP_K} | {name: manifest[name] for name in ("num_items", "width", "max_length")}


def engine_alone(repository: Path, dataset: Dataset, length: int) -> dict[str, Any]:
    """Milliseconds of one engine call for one user, in this process."""
    version = Repository(repository).version(1)
    engine = load_engine(version)
    start = stretches(dataset, length, 1)
    history = slices(dataset.histories, start, start + length)
    inputs = model_input(history, history.time[-1:], version.max_length)
    batch = Batch(inputs, IndexLists.of([np.unique(history.item)]), IndexLists.of([history.item[:0]]))
    times = []
    for _ in range(ENGINE_CALLS):
        began = time.perf_counter()
        engine.score(batch)
        times.append((time.perf_counter() - began) * 1000)
    return {name: value for name, value in summary(times).items() if name != "rounds"}


def one(server: ServerState, dataset: Dataset, clients: int, length: int, seconds: float) -> dict[str, Any]:
    """One measurement, the step's own times from the server's statistics."""
    before = step_statistics(server)
    command = [sys.executable, __file__, "--seconds", str(seconds)]
    where = ["--client", server.grpc_url, str(dataset.folder), str(clients), str(length)]
    run = subprocess.run([*command, *where], stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(run.stdout)
    after = step_statistics(server)
    requests, executions, compute, queue = (new - old for new, old in zip(after, before, strict=True))
    row["step_ms"] = compute / requests / 1e6
    row["step_queue_ms"] = queue / requests / 1e6
    row["requests_per_batch"] = requests / executions
    return row


def step_statistics(server: ServerState) -> tuple[int, int, int, int]:
    """Requests, executions, nanoseconds computing and queueing (both per request, summed)."""
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        key = {GRPC_KEY_HEADER: server.repository_key}
        model = client.get_inference_statistics(RECOMMENDER, headers=key).model_stats[0]
    times = model.inference_stats
    return model.inference_count, model.execution_count, times.compute_infer.ns, times.queue.ns


async def load(url: str, dataset: Path, clients: int, length: int, seconds: float) -> dict[str, Any]:
    """Keep `clients` requests in flight for `seconds`, after a second of warm-up."""
    histories = make_histories(Dataset.open(dataset), length)
    times: list[float] = []
    failures = 0
    async with AsyncClient(url, timeout=30, retries=0) as client:
        floor = await floor_ms(client)

        async def ask(number: int, until: float, kept: list[float]) -> None:
            nonlocal failures
            place = number
            while time.perf_counter() < until:
                began = time.perf_counter()
                try:
                    await client.recommend(histories[place % len(histories)])
                except Exception as error:
                    failures += 1
                    print(error, file=sys.stderr)
                kept.append((time.perf_counter() - began) * 1000)
                place += clients

        for kept, duration in (([], 1.0), (times, seconds)):
            began = time.perf_counter()
            await asyncio.gather(*(ask(number, began + duration, kept) for number in range(clients)))
            elapsed = time.perf_counter() - began
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "clients": clients,
        "events": length,
        "requests": len(times),
        "failures": failures,
        "requests_per_second": len(times) / elapsed,
        "p50_ms": p50,
        "p99_ms": p99,
        "floor_ms": floor,
        "p50_to_floor": p50 / floor,
    }


async def floor_ms(client: AsyncClient) -> float:
    """Median of a call that computes nothing."""
    times = []
    for _ in range(200):
        began = time.perf_counter()
        await client.ready()
        times.append((time.perf_counter() - began) * 1000)
    return float(np.median(times))


def stretches(dataset: Dataset, length: int, count: int) -> NDArray[np.int64]:
    """Where `count` stretches of `length` events begin, each within one user's history."""
    offsets, random = dataset.histories.offsets, np.random.default_rng(0)
    users = random.choice(np.flatnonzero(dataset.histories.lengths >= length), count)
    starts: NDArray[np.int64] = random.integers(offsets[users], offsets[users + 1] - length + 1)
    return starts


def made(place: Path) -> Path:
    """With what `make_repository` makes, if it is not there."""
    if not (place / "model_repository").is_dir():
        make_repository(place)
    return place


def asked_at(history: list[Event], seconds: int = 0) -> int:
    """An hour after the last event, and so many seconds."""
    last = history[-1].time
    assert isinstance(last, int)
    return last + HOUR_MS + 1000 * seconds


def make_histories(dataset: Dataset, length: int) -> list[list[Event]]:
    """`length` real events each, with their times: sorting, repeats and gaps are the work they really are."""
    histories, ids = dataset.histories, [id_.decode() for id_ in dataset.items]
    names = [name.decode() for name in dataset.actions]
    return [
        [
            Event(
                ids[histories.item[place] - 1],
                names[histories.action[place] - 1],
                int(histories.time[place]),
            )
            for place in range(start, start + length)
        ]
        for start in stretches(dataset, length, 256)
    ]


if __name__ == "__main__":
    main()
