"""What a caller on the server's machine would save by system shared memory in place of messages: time and CPU.

python benchmarks/shared_memory.py [--rounds 8] [--place FOLDER]

Histories of 10, 50, 200 and 5,000 events, the same requests in four ways in turn, one client in a closed loop:
through the door over gRPC and over HTTP, as everybody asks; by the server's own socket file with all in the message;
and there with all in a region of shared memory, which is the most that a door that let regions pass could give. At
the end a region is cut short that is registered, and asked from: what becomes of the server. FOLDER keeps the model.
"""

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil
import tritonclient.grpc as grpcclient
import tritonclient.utils.shared_memory as system_memory
from _facts import busy_cores, commit, cpu_s, machine
from door import door_of
from serve import asked_at, made, make_histories, shapes
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from footfall.contract import ENSEMBLE, GRPC_KEY_HEADER
from footfall_client import Client, Event
from footfall_client._codec import Tensors, decode, encode
from footfall_data.dataset import Dataset
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

LENGTHS = (10, 50, 200, 5000)
HISTORIES = 32
REGION_BYTES = 1 << 20
END_S = 10.0
Ask = Callable[[list[Event]], Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--place", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(measure(made(options.place or Path(scratch)), options.rounds)))


def measure(place: Path, rounds: int) -> dict[str, Any]:
    dataset, repository, quiet = Dataset.open(place / "dataset"), place / "model_repository", busy_cores()
    with running_server(repository) as state:
        pids = state.pid, door_of(state).pid
        with contextlib.ExitStack() as stack:
            regions = stack.enter_context(Regions(state))
            ways: dict[str, Ask] = {
                "gRPC": asker(stack.enter_context(Client(state.grpc_url, timeout=30))),
                "HTTP": asker(stack.enter_context(Client(state.http_url, "http", timeout=30))),
                "gRPC, without the door": lambda events: regions.ask_in_message(asked(events)),
                "shared memory, without the door": lambda events: regions.ask_in_region(asked(events)),
            }
            rows = [
                row
                for length in LENGTHS
                for row in compared(ways, of_length(dataset, length), length, rounds, pids)
            ]
            cut = regions.cut(asked(of_length(dataset, 50)[0]))
    print(f"a region that is cut short once it is registered, and asked from: {cut}")
    return {
        "what": "one client on the server's machine, onnxruntime fp32",
        "shapes": shapes(repository),
        "machine": machine(),
        "commit": commit(),
        "busy_cores_before": quiet,
        "rows": rows,
        "a_region_cut_short": cut,
    }


class Regions:
    """The server's own socket file, and one region that is registered there with the key. A context manager."""

    def __init__(self, state: ServerState) -> None:
        self._server, self._headers = state.pid, {GRPC_KEY_HEADER: state.repository_key}
        self._name = f"benchmark-{os.getpid()}"
        self._client = grpcclient.InferenceServerClient(f"unix:{quote(state.grpc_file)}")
        self._region = system_memory.create_shared_memory_region(self._name, f"/{self._name}", REGION_BYTES)

    def __enter__(self) -> "Regions":
        self._client.register_system_shared_memory(
            self._name, f"/{self._name}", REGION_BYTES, headers=self._headers
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        system_memory.destroy_shared_memory_region(self._region)

    def ask_in_message(self, tensors: Tensors) -> Any:
        inputs = []
        for tensor, values in tensors:
            inputs.append(grpcclient.InferInput(tensor.name, list(values.shape), tensor.data_type))
            inputs[-1].set_data_from_numpy(values)
        return decode(self._client.infer(ENSEMBLE, inputs))

    def ask_in_region(self, tensors: Tensors) -> Any:
        return decode(self._client.infer(ENSEMBLE, self._in_region(tensors)))

    def _in_region(self, tensors: Tensors) -> list[grpcclient.InferInput]:
        inputs, place, memory = [], 0, self._region._mpsm_handle.buf
        for tensor, values in tensors:
            raw = serialize_byte_tensor(values).item() if tensor.data_type == "BYTES" else values.tobytes()
            memory[place : place + len(raw)] = raw
            inputs.append(grpcclient.InferInput(tensor.name, list(values.shape), tensor.data_type))
            inputs[-1].set_shared_memory(self._name, len(raw), place)
            place += len(raw)
        return inputs

    def cut(self, tensors: Tensors) -> str:
        """What becomes of the server."""
        inputs = self._in_region(tensors)
        os.truncate(f"/dev/shm/{self._name}", 0)
        with contextlib.suppress(InferenceServerException):
            self._client.infer(ENSEMBLE, inputs, client_timeout=END_S)
        deadline = time.monotonic() + END_S
        while time.monotonic() < deadline:
            if not psutil.pid_exists(self._server) or (
                psutil.Process(self._server).status() == psutil.STATUS_ZOMBIE
            ):
                return "the server ended"
            time.sleep(0.1)
        return "the server lives"


def asked(events: list[Event]) -> Tensors:
    return encode(events, None, None, True, None, asked_at(events))


def asker(client: Client) -> Ask:
    return lambda events: client.recommend(events, now=asked_at(events))


def of_length(dataset: Dataset, length: int) -> list[list[Event]]:
    """Real histories; one longer than any of the shop's is put together of many."""
    histories = make_histories(dataset, min(length, 200))
    if length <= 200:
        return histories[:HISTORIES]
    joined = [event for history in histories for event in history]
    return [joined[100 * start : 100 * start + length] for start in range(HISTORIES)]


def compared(
    ways: dict[str, Ask], histories: Sequence[list[Event]], length: int, rounds: int, pids: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """A row a way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    served, own = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    answers = {name: ask(histories[0]) for name, ask in ways.items()}
    assert len({answer.items for answer in answers.values()}) == 1, "the ways give unlike answers"
    for _ in range(rounds):
        for name, ask in ways.items():
            before, began = sum(map(cpu_s, pids)), time.process_time()
            for history in histories:
                start = time.perf_counter()
                ask(history)
                times[name].append((time.perf_counter() - start) * 1000)
            own[name] += (time.process_time() - began) * 1000
            served[name] += (sum(map(cpu_s, pids)) - before) * 1000
    for name, found in times.items():
        row = {
            "way": name,
            "events": length,
            "p50_ms": float(np.median(found)),
            "p10_ms": float(np.quantile(found, 0.1)),
            "server_cpu_ms": served[name] / len(found),
            "client_cpu_ms": own[name] / len(found),
        }
        print(
            f"{length:5} events, {name:32}: p50 {row['p50_ms']:6.2f} ms, p10 {row['p10_ms']:6.2f}; CPU of server and"
            f" door {row['server_cpu_ms']:6.2f} ms a request, of the client {row['client_cpu_ms']:5.2f}",
            flush=True,
        )
        yield row


if __name__ == "__main__":
    main()
