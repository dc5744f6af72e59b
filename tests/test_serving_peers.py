"""The benchmark beside other services: the open loop counts what it sends, the table judges as written."""

import asyncio
import importlib
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "serving_peers"


@pytest.fixture
def open_loop(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("open_loop")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.syspath_prepend(str(FOLDER.parent))
    return importlib.import_module("run")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """200 to `good`, 500 to all else."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            status = b"200 OK" if body == b"good" else b"500 Internal Server Error"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")
    except asyncio.IncompleteReadError:
        writer.close()


def test_the_open_loop_sends_at_its_rate_and_counts_failures(open_loop: Any) -> None:
    async def both() -> dict[str, Any]:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            row: dict[str, Any] = await open_loop.run(f"127.0.0.1:{port}", [b"good", b"bad"], 200, 0.5)
            return row

    row = asyncio.run(both())
    assert (row["requests"], row["failures"]) == (100, 50)
    assert 0 < row["p50_ms"] <= row["p99_ms"]


def test_the_highest_rate_is_the_last_within_the_limit_and_without_failures(run: Any) -> None:
    rows = [
        {"peer": "a", "rate": rate, "p99_ms": p99, "failures": failures}
        for rate, p99, failures in ((100, 5, 0), (125, 49, 0), (156, 51, 0), (195, 20, 1))
    ]
    assert run.highest_rate(rows, "a") == 125
    assert run.highest_rate(rows, "b") == 0


def test_the_table_shows_each_services_best_round(run: Any) -> None:
    closed = [
        {
            "peer": "a",
            "events": length,
            "clients": clients,
            "requests_per_second": rate,
            "p50_ms": 1.0,
            "p99_ms": 2.0,
            "failures": int(rate == 1500),
        }
        for length in (*run.LENGTHS, run.ZIPF)
        for clients in run.CLIENTS
        for rate in (1000, 1500)
    ]
    lines = run.table(closed, [{"peer": "a", "rate": 100, "p99_ms": 9, "failures": 0}]).splitlines()
    assert lines[0] == "| events, clients | a |"
    assert lines[2] == "| 10, 1 | 1,500 (1.0, 2.0, 1 failed) |"
    assert lines[-1].endswith("| 100 |")
