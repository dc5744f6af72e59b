"""What the door costs: its processor time a request, and what is answered with it and without, over gRPC and HTTP.

python benchmarks/door.py [--seconds 4] [--rounds 3]

Starts the real server on the repository of benchmarks/serve.py. A client in a process of its own keeps 1, 8 or 32
requests of 50 events in flight, in turn through the door and by the server's own socket file.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from _facts import busy_cores, commit, cpu_s, machine, summary
from serve import make_histories, make_repository, shapes
from tritonclient.grpc import service_pb2

from footfall.contract import ENSEMBLE, ITEM_ID
from footfall_data.dataset import Dataset
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

CLIENTS = (1, 8, 32)
EVENTS = 50
METHOD = "/inference.GRPCInferenceService/ModelInfer"
Ask = Callable[[bytes], Awaitable[None]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of each pair of measurements")
    parser.add_argument(
        "--client", nargs=4, metavar=("PROTOCOL", "TARGET", "DATASET", "CLIENTS"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.client:
        protocol, target, dataset, clients = options.client
        load = asyncio.run(keep_asking(protocol, target, Path(dataset), int(clients), options.seconds))
        print(json.dumps(load))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(measure(Path(scratch), options.seconds, options.rounds)))


def measure(scratch: Path, seconds: float, rounds: int) -> dict[str, Any]:
    dataset, repository = make_repository(scratch)
    quiet = busy_cores()
    rows = []
    with running_server(repository) as server:
        door = door_of(server)
        for protocol in ("grpc", "http"):
            for clients in CLIENTS:
                rows.append(compare(server, door, protocol, dataset, clients, seconds, rounds))
                print(
                    f"{protocol} {clients:3} clients: the door takes {rows[-1]['door_us']['median']:.0f} us each;"
                    f" {rows[-1]['with_door']['median']:,.0f} requests/s with it,"
                    f" {rows[-1]['without']['median']:,.0f} without"
                    f" ({rows[-1]['ratio']['median']:.2f})"
                )
    return {
        "what": "processor time of the door a request; requests/s with the door and by the server's own socket file",
        "shapes": shapes(repository) | {"events": EVENTS},
        "machine": machine(),
        "commit": commit(),
        "busy_cores_before": quiet,
        "rows": rows,
    }


def door_of(server: ServerState) -> psutil.Process:
    for child in psutil.Process().children():
        if any(each.laddr.port == server.grpc_port for each in child.net_connections("tcp") if each.laddr):
            return child
    raise RuntimeError("the door is not there")


def compare(
    server: ServerState,
    door: psutil.Process,
    protocol: str,
    dataset: Dataset,
    clients: int,
    seconds: float,
    rounds: int,
) -> dict[str, Any]:
    """Pairs of measurements that follow each other."""
    through = {"grpc": server.grpc_url, "http": server.http_url}[protocol]
    straight = str(Path(server.grpc_file).with_name("http")) if protocol == "http" else server.grpc_file
    found: dict[str, list[float]] = {"with_door": [], "without": [], "door_us": [], "ratio": []}
    for _ in range(rounds):
        before = cpu_s(door.pid)
        with_door = one(protocol, through, dataset, clients, seconds)
        found["door_us"].append((cpu_s(door.pid) - before) / with_door["asked"] * 1e6)
        without = one(protocol, f"unix:{straight}", dataset, clients, seconds)
        found["with_door"].append(with_door["requests_per_second"])
        found["without"].append(without["requests_per_second"])
        found["ratio"].append(with_door["requests_per_second"] / without["requests_per_second"])
    return {"protocol": protocol, "clients": clients} | {
        name: summary(values) for name, values in found.items()
    }


def one(protocol: str, target: str, dataset: Dataset, clients: int, seconds: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--seconds", str(seconds), "--client"]
    run = subprocess.run(
        [*command, protocol, target, str(dataset.folder), str(clients)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    row: dict[str, Any] = json.loads(run.stdout)
    return row


async def keep_asking(
    protocol: str, target: str, dataset: Path, clients: int, seconds: float
) -> dict[str, Any]:
    """Keep `clients` requests in flight for `seconds`, after half a second of warm-up; `asked` counts both."""
    histories = [
        [event.item for event in history] for history in make_histories(Dataset.open(dataset), EVENTS)
    ]
    asks = [await {"grpc": grpc_ask, "http": http_ask}[protocol](target) for _ in range(clients)]
    requests = [{"grpc": grpc_request, "http": http_request}[protocol](history) for history in histories]
    asked = 0

    async def keep_one(number: int, until: float) -> int:
        answers = 0
        while time.perf_counter() < until:
            await asks[number](requests[(number + answers * clients) % len(requests)])
            answers += 1
        return answers

    for duration in (0.5, seconds):
        began = time.perf_counter()
        answers = sum(
            await asyncio.gather(*(keep_one(number, began + duration) for number in range(clients)))
        )
        elapsed = time.perf_counter() - began
        asked += answers
    return {"asked": asked, "requests_per_second": answers / elapsed}


async def grpc_ask(target: str) -> Ask:
    """On a connection of its own, as clients of a shop have."""
    channel = grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])
    call = channel.unary_unary(METHOD)

    async def ask(request: bytes) -> None:
        await call(request)

    return ask


def grpc_request(ids: list[str]) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
    request.inputs.add(name=ITEM_ID.name, datatype=ITEM_ID.data_type, shape=[1, len(ids)])
    raw = b"".join(np.uint32(len(id_)).tobytes() + id_.encode() for id_ in ids)
    request.raw_input_contents.append(raw)
    text: bytes = request.SerializeToString()
    return text


async def http_ask(target: str) -> Ask:
    if target.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(target.removeprefix("unix:"))
    else:
        reader, writer = await asyncio.open_connection(*target.split(":"))

    async def ask(request: bytes) -> None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(head.decode())
        length = head.lower().partition(b"content-length:")[2].split()[0]
        await reader.readexactly(int(length))

    return ask


def http_request(ids: list[str]) -> bytes:
    tensor = {"name": ITEM_ID.name, "datatype": ITEM_ID.data_type, "shape": [1, len(ids)], "data": ids}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST /v2/models/{ENSEMBLE}/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


if __name__ == "__main__":
    main()
