"""`footfall recommend`: ask a served model from the command line."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from footfall.contract import DEFAULT_TOP_K
from footfall_cli.output import JsonOption, show


def recommend(
    item: Annotated[
        list[str] | None, typer.Option(help="An event, oldest first: ITEM or ITEM:ACTION; may be repeated.")
    ] = None,
    url: Annotated[str, typer.Option(help="host:port of the server.")] = "127.0.0.1:8001",
    protocol: Annotated[Literal["grpc", "http"], typer.Option(help="What the url speaks.")] = "grpc",
    k: Annotated[int, typer.Option("-k", "--top-k", help="Length of the list.")] = DEFAULT_TOP_K,
    candidate: Annotated[list[str] | None, typer.Option(help="Rank only these; may be repeated.")] = None,
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="List items of the history too.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 5.0,
    tls_root: Annotated[
        Path | None, typer.Option(help="PEM root of the server's certificate; uses TLS.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for the next items and the probability of each next action.

    Example: footfall recommend --url 127.0.0.1:8001 --item 85123A:view --item 22423:cart -k 5
    """
    from footfall_client import Client

    history = [_event(text) for text in item or []]
    with Client(url, protocol, timeout=timeout, tls=tls_root or False) as client:
        started = time.perf_counter()
        answer = client.recommend(history, k, candidate, exclude_seen=not keep_seen)
        milliseconds = (time.perf_counter() - started) * 1000
    result: dict[str, Any] = {
        "items": [vars(listed) for listed in answer.items],
        "action_probability": dict(answer.action_probability),
        "user_vector": answer.user_vector.tolist(),
        "model_version": answer.model_version,
        "latency_ms": milliseconds,
    }
    lines = [f"{place:3}  {listed.id:24} {listed.score:8.3f}" for place, listed in enumerate(answer.items, 1)]
    lines.append(", ".join(f"{action} {share:.1%}" for action, share in answer.action_probability.items()))
    lines.append(f"version {answer.model_version}, {milliseconds:.1f} ms with the first call's connection")
    show(result, "\n".join(lines), as_json)


def _event(text: str) -> Any:
    from footfall_client import Event

    name, separator, action = text.rpartition(":")
    return Event(name, action) if separator else Event(text)
