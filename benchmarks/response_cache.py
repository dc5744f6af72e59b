"""What answers that are kept save where requests repeat, and what they cost where none does.

python benchmarks/response_cache.py [--requests 100] [--rounds 5] [--place FOLDER]

Three servers at once, asked in turn by one client: without a cache, with `serve --response-cache-mib 64`, and with
the cache that the server itself has, on the recommender. A share of the requests is of 16 histories again, the others
are of new ones. Time goes on: each request is asked a second after the one before; but of the server's own cache
`now` stands still, as it finds nothing otherwise. Then what each answers to a request that is refused, asked again.
FOLDER keeps the trained model for the next run.
"""

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from _facts import busy_cores, commit, cpu_s, machine
from serve import HOUR_MS, asked_at, made, make_histories, shapes

from footfall.contract import RECOMMENDER
from footfall_client import Client, Event, InvalidRequest
from footfall_data.dataset import Dataset
from footfall_engines.model_configs import step_config
from footfall_serving import server as servers
from footfall_serving.install import server_home
from footfall_serving.options import ServeOptions
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

SHARES = (0.0, 0.1, 0.5, 0.9)
LENGTHS = (10, 50, 200)
REPEATED = 16
MIB = 64
NONE, KEPT, OWN = "none", "kept answers", "the server's own"


@dataclass
class Served:
    state: ServerState
    client: Client
    times_ms: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100, help="to each server in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--place", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = made(options.place or Path(scratch))
        print(json.dumps(measure(place, Path(scratch), options.requests, options.rounds)))


def measure(place: Path, scratch: Path, requests: int, rounds: int) -> dict[str, Any]:
    dataset, quiet = Dataset.open(place / "dataset"), busy_cores()
    with contextlib.ExitStack() as stack:
        served = {}
        for name in (NONE, KEPT, OWN):
            copy = scratch / f"copy of {name}"
            shutil.copytree(place / "model_repository", copy, ignore=shutil.ignore_patterns(".*"))
            with the_servers_own() if name == OWN else contextlib.nullcontext():
                mib = MIB if name == KEPT else 0
                state = stack.enter_context(
                    running_server(copy, ServeOptions("127.0.0.1", 0, 0, 0, response_cache_mib=mib))
                )
            served[name] = Served(state, stack.enter_context(Client(state.grpc_url, timeout=30)))
        rows = [
            row
            for length in LENGTHS
            for share in SHARES
            for row in compared(served, dataset, length, share, requests, rounds)
        ]
        refused = {name: twice_refused(one.client) for name, one in served.items()}
    print(f"asked twice what is refused: {refused}")
    return {
        "what": "repeated requests over gRPC, one client, onnxruntime fp32",
        "shapes": shapes(place / "model_repository"),
        "machine": machine(),
        "commit": commit(),
        "busy_cores_before": quiet,
        "rows": rows,
        "asked_twice_what_is_refused": refused,
    }


@contextlib.contextmanager
def the_servers_own() -> Iterator[None]:
    """A server that is started in the block has its own cache on, on the recommender."""
    command = servers._command

    def cached_step(step: str, *rest: Any, **more: Any) -> Any:
        config = step_config(step, *rest, **more)
        config.response_cache.enable = step == RECOMMENDER
        return config

    def cached_command(*rest: Any) -> list[str]:
        caches = server_home().backends.parent / "caches"
        return [*command(*rest), f"--cache-config=local,size={MIB << 20}", f"--cache-directory={caches}"]

    with (
        mock.patch("footfall_engines.repository.step_config", cached_step),
        mock.patch.object(servers, "_command", cached_command),
    ):
        yield


def compared(
    served: dict[str, Served], dataset: Dataset, length: int, share: float, requests: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """A row a server."""
    random, histories = np.random.default_rng((length, int(100 * share))), make_histories(dataset, length)
    ids = [id_.decode() for id_ in dataset.items]
    for one in served.values():
        one.times_ms, one.cpu_ms = [], 0.0
        for history in histories[:REPEATED] * 4:  # to each instance of a step
            one.client.recommend(history, now=asked_at(history, 0))
    for turn in range(rounds):
        asked = [
            histories[random.integers(REPEATED)]
            if random.random() < share
            else a_new_one(histories[random.integers(len(histories))], str(random.choice(ids)))
            for _ in range(requests)
        ]
        for name, one in served.items():
            ask(one, asked, [0 if name == OWN else turn * requests + number for number in range(requests)])
    for name, one in served.items():
        row = {
            "cache": name,
            "events": length,
            "repeated": share,
            "p50_ms": float(np.median(one.times_ms)),
            "cpu_ms": one.cpu_ms / len(one.times_ms),
        }
        print(
            f"{length:3} events, {share:4.0%} repeated, {name:16}: p50 {row['p50_ms']:6.2f} ms, server's CPU"
            f" {row['cpu_ms']:5.2f} ms a request",
            flush=True,
        )
        yield row


def ask(one: Served, histories: Sequence[list[Event]], seconds: Sequence[int]) -> None:
    before = cpu_s(one.state.pid)
    for history, later in zip(histories, seconds, strict=True):
        began = time.perf_counter()
        one.client.recommend(history, now=asked_at(history, later))
        one.times_ms.append((time.perf_counter() - began) * 1000)
    one.cpu_ms += (cpu_s(one.state.pid) - before) * 1000


def a_new_one(history: list[Event], item: str) -> list[Event]:
    return [*history[:-1], Event(item, history[-1].action, history[-1].time)]


def twice_refused(client: Client) -> list[str]:
    """How a request with an impossible k is answered the first and the second time."""
    answers = []
    for _ in range(2):
        try:
            client.recommend(["nothing"], k=10**6, now=HOUR_MS)
        except InvalidRequest:
            answers.append("refused")
        except TypeError:  # of a tensor that is not there
            answers.append("200, without any output")
    return answers


if __name__ == "__main__":
    main()
