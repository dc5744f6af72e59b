"""What a swap costs those who ask meanwhile, and whether the server grows with swaps.

python benchmarks/swaps.py [--swaps 200] [--seconds 20]

Starts the real server on the repository of benchmarks/serve.py, exported three times. 8 clients in a process of
their own ask without a pause, histories of 50 events. Before and after the swaps nothing is published for a while;
between, the three versions are published in turn. Each publish verifies its version, loads it beside the live one,
replays the canary, moves the traffic and lets the version before the last go: all that on the cores that client and
server share. After each the memory of the server and its stubs is added up (PSS: what they share counts once), and
its shared memory.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _facts import busy_cores, commit, machine, summary
from numpy.typing import NDArray
from serve import FOOTFALL, make_histories, make_repository, shapes

from footfall_client import AsyncClient
from footfall_data.dataset import Dataset
from footfall_engines.repository import Repository
from footfall_serving.publish import publish
from footfall_serving.server import running_server
from footfall_serving.state import ServerState
from footfall_serving.stubs import SHARED_MEMORY

CLIENTS, EVENTS, VERSIONS = 8, 50, 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0, help="without a swap, before and after")
    parser.add_argument("--client", nargs=2, metavar=("URL", "DATASET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        url, dataset = options.client
        print(json.dumps(asyncio.run(keep_asking(url, Path(dataset)))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(measure(Path(scratch), options.swaps, options.seconds)))


def measure(scratch: Path, swaps: int, seconds: float) -> dict[str, Any]:
    dataset, repository = make_repository(scratch)
    for _ in range(1, VERSIONS):
        command = [FOOTFALL, "export", str(scratch / "checkpoint"), "--repository", str(repository)]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    quiet = busy_cores()
    said: list[str] = []
    with running_server(repository, say=said.append) as server:
        command = [sys.executable, __file__, "--client", server.grpc_url, str(dataset.folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            began = time.monotonic()
            time.sleep(seconds)
            windows, memory = swap(repository, server, swaps)
            time.sleep(seconds)
            asked = json.loads(client.communicate()[0])
    ended, took = np.array(asked["answers"]).T
    return {
        "what": f"{swaps} swaps under {CLIENTS} clients over gRPC, closed loops",
        "shapes": shapes(repository) | {"events": EVENTS},
        "machine": machine(),
        "commit": commit(),
        "busy_cores_before": quiet,
        "requests": len(took),
        "failures": asked["failures"],
        "supervisor_said": said,
        "swap_s": summary_of([end - start for start, end in windows]),
        "ms": percentiles(ended, took, began, windows),
        "memory": memory,
    }


def swap(
    repository: Path, server: ServerState, swaps: int
) -> tuple[list[tuple[float, float]], dict[str, Any]]:
    """From when to when each took; the memory after the first tenth of them and after the last."""
    windows, held = [], []
    for number in range(swaps):
        began = time.monotonic()
        publish(Repository(repository).version_folder((number + 1) % VERSIONS + 1))
        windows.append((began, time.monotonic()))
        held.append(footprint(server))
        if number % 10 == 9:
            print(f"{number + 1} swaps: {held[-1]}", flush=True)
    tenth = max(swaps // 10, 1)
    first, last = (
        {name: float(np.median([row[name] for row in rows])) for name in held[0]}
        for rows in (held[:tenth], held[-tenth:])
    )
    return windows, {"median_of_the_first_tenth": first, "median_of_the_last_tenth": last}


def footprint(server: ServerState) -> dict[str, float]:
    """What the server itself holds, it and its stubs, and the shared memory named after it."""
    process = psutil.Process(server.pid)
    regions = list(SHARED_MEMORY.glob(f"{server.shm_prefix}*"))
    own = process.memory_full_info().pss
    stubs = []
    for child in process.children(recursive=True):
        try:
            stubs.append(child.memory_full_info().pss)
        except psutil.NoSuchProcess:  # of the version that was let go
            continue
    return {
        "server_mib": round(own / 2**20, 1),
        "all_mib": round((own + sum(stubs)) / 2**20, 1),
        "processes": len(stubs) + 1,
        "regions": len(regions),
        "shared_mib": round(sum(region.stat().st_blocks * 512 for region in regions) / 2**20, 1),
    }


def percentiles(
    ended: NDArray[np.float64], took: NDArray[np.float64], began: float, windows: list[tuple[float, float]]
) -> dict[str, Any]:
    """Milliseconds of the requests that ended while nothing was published, of those that ended while something was,
    and the p99 of each swap by itself.
    """
    first, last = windows[0][0], windows[-1][1]
    calm = took[((ended > began + 3) & (ended < first)) | (ended > last + 1)]
    within = [took[(ended >= start) & (ended <= end)] for start, end in windows]
    during = np.concatenate(within)
    each = [float(np.percentile(one, 99)) for one in within if len(one)]
    calm_p99, swap_p99 = (float(np.percentile(some, 99)) for some in (calm, during))
    return {
        "calm": {"requests": len(calm), "p50": float(np.median(calm)), "p99": calm_p99},
        "during_swaps": {
            "requests": len(during),
            "p50": float(np.median(during)),
            "p99": swap_p99,
            "max": float(during.max()),
        },
        "p99_ratio": swap_p99 / calm_p99,
        "p99_of_each_swap": summary_of(each),
    }


def summary_of(values: list[float]) -> dict[str, float]:
    return {name: value for name, value in summary(values).items() if name != "rounds"}


async def keep_asking(url: str, dataset: Path) -> dict[str, Any]:
    """Until the standard input ends: when each answer came, by the clock of the machine, and the milliseconds."""
    histories = make_histories(Dataset.open(dataset), EVENTS)
    answers: list[tuple[float, float]] = []
    failures: Counter[str] = Counter()
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))

    async def ask(client: AsyncClient, place: int) -> None:
        while not ended.done():
            began = time.monotonic()
            try:
                await client.recommend(histories[place % len(histories)])
            except Exception as error:  # whatever it is, it failed
                failures[repr(error)] += 1
            now = time.monotonic()
            answers.append((now, (now - began) * 1000))
            place += CLIENTS

    async with AsyncClient(url, timeout=30, retries=0) as client:
        await asyncio.gather(*(ask(client, number) for number in range(CLIENTS)))
    return {"answers": answers, "failures": failures}


if __name__ == "__main__":
    main()
