"""`footfall recommend`: ask a served model from the command line."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from footfall.contract import DEFAULT_TOP_K
from footfall.events import canonical_action
from footfall_cli.output import JsonOption, say, show

ITEM = (
    "An event, oldest first: ITEM or ITEM:ACTION; may be repeated. What follows the last colon is an action where"
    " the served model knows it (or it is empty: no action); else the colon belongs to the item, which is said."
)


def recommend(
    item: Annotated[list[str] | None, typer.Option(help=ITEM)] = None,
    url: Annotated[str, typer.Option(help="host:port of the server.")] = "127.0.0.1:8001",
    protocol: Annotated[Literal["grpc", "http"], typer.Option(help="What the url speaks.")] = "grpc",
    k: Annotated[int, typer.Option("-k", "--top-k", help="Length of the list.")] = DEFAULT_TOP_K,
    candidate: Annotated[list[str] | None, typer.Option(help="Rank only these; may be repeated.")] = None,
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="List items of the history too.")] = False,
    user: Annotated[
        str | None, typer.Option(help="Who asks: the server may reuse what it computed of this user.")
    ] = None,
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

    with Client(url, protocol, timeout=timeout, tls=tls_root or False) as client:
        # An answer names the model's actions; this one opens the connection before the clock runs, too.
        actions = list(client.recommend([], k=1).action_probability)
        history = [_event(text, actions) for text in item or []]
        started = time.perf_counter()
        answer = client.recommend(history, k, candidate, exclude_seen=not keep_seen, user=user)
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
    lines.append(f"version {answer.model_version}, {milliseconds:.1f} ms")
    show(result, "\n".join(lines), as_json)


def _event(text: str, actions: list[str]) -> Any:
    from footfall_client import Event

    item, colon, action = text.rpartition(":")
    if item and (not action or canonical_action(action) in actions):
        return Event(item, action or None)
    if colon:
        say(f"{text!r} is an item: {action!r} is no action of this model, which has {', '.join(actions)}")
    return Event(text)
