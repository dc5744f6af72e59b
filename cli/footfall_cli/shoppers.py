"""Shoppers: real histories of a data set, shown with titles beside what the server answers."""

import time
from pathlib import Path
from typing import Any

from footfall.contract import UNKNOWN_TIME

NUM_SHOPPERS = 2
SHOWN_EVENTS = 8
TOP_K = 5
LATENCY_REQUESTS = 300
WARM_UP_REQUESTS = 20
MAX_EVENTS = 200


def ask(url: str, dataset_folder: Path) -> dict[str, Any]:
    """Recommendations for a few shoppers as of the log's end, and the latency of one client asking one at a time."""
    import polars as pl

    from footfall_client import Client
    from footfall_data.dataset import Dataset

    dataset = Dataset.open(dataset_folder)
    table = pl.read_parquet(dataset_folder / "items.parquet")
    titles = dict(zip(table["item_id"], table["title"], strict=True))
    users = _some_users(dataset)
    end_of_log = int(dataset.histories.time.max())
    with Client(url) as client:
        shoppers = []
        for user in users:
            history = _history(dataset, user)
            answer = client.recommend(history, k=TOP_K, now=end_of_log)
            shoppers.append(
                {
                    "user": dataset.users.id(user + 1).decode(),
                    "history": [_row(event, titles) for event in history[-SHOWN_EVENTS:]],
                    "events": len(history),
                    "recommended": [
                        {"item": item.id, "title": titles.get(item.id), "score": item.score}
                        for item in answer.items
                    ],
                    "action_probability": dict(answer.action_probability),
                    "version": answer.model_version,
                }
            )
        latency = _latency_ms(client, dataset)
    return {"shoppers": shoppers, "latency_ms": latency, "version": shoppers[-1]["version"]}


def _some_users(dataset: Any) -> list[int]:
    """The first users whose history is neither short nor too long to show."""
    import numpy as np

    lengths = dataset.histories.lengths
    wanted = np.flatnonzero((lengths >= min(4, lengths.max())) & (lengths <= 3 * SHOWN_EVENTS))
    users: list[int] = (wanted if len(wanted) else np.argsort(lengths))[:NUM_SHOPPERS].tolist()
    return users


def _history(dataset: Any, user: int) -> list[Any]:
    from footfall_client import Event

    histories = dataset.histories
    start, end = histories.offsets[user], histories.offsets[user + 1]
    actions = [name.decode() for name in dataset.actions]
    return [
        Event(
            dataset.items.id(int(histories.item[place])).decode(),
            actions[histories.action[place] - 1],
            int(histories.time[place]),
        )
        for place in range(max(start, end - MAX_EVENTS), end)
    ]


def _row(event: Any, titles: dict[str, str | None]) -> dict[str, Any]:
    return {
        "time": event.time,
        "action": event.action,
        "item": event.item,
        "title": titles.get(event.item),
    }


def _latency_ms(client: Any, dataset: Any) -> dict[str, float]:
    users = [place % dataset.histories.num_users for place in range(LATENCY_REQUESTS)]
    histories = [_history(dataset, user) for user in users]
    for history in histories[:WARM_UP_REQUESTS]:
        client.recommend(history)
    times = []
    for history in histories:
        began = time.perf_counter()
        client.recommend(history)
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}


def describe(result: dict[str, Any]) -> str:
    """The shoppers as text."""
    lines = []
    for shopper in result["shoppers"]:
        lines += ["", f"shopper {shopper['user']}, {shopper['events']} events, the newest last:"]
        lines += [
            f"    {_when(row['time'])}  {row['action']:<10} {row['title'] or row['item']}"
            for row in shopper["history"]
        ]
        lines += ["  is recommended:"]
        lines += [
            f"    {place}. {row['title'] or row['item']}  ({row['score']:.2f})"
            for place, row in enumerate(shopper["recommended"], start=1)
        ]
        chances = ", ".join(f"{name} {share:.0%}" for name, share in shopper["action_probability"].items())
        lines += [f"  the next action: {chances}"]
    latency = result["latency_ms"]
    lines += [
        "",
        f"served by version {result['version']} over gRPC: p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms",
    ]
    return "\n".join(lines)


def _when(epoch_ms: int) -> str:
    from datetime import UTC, datetime

    if epoch_ms == UNKNOWN_TIME:
        return "at some time"
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
