"""`footfall recommend`: ask a served model from the command line."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from footfall.contract import DEFAULT_TOP_K
from footfall.errors import InputError
from footfall.events import canonical_action
from footfall_cli.output import JsonOption, say, show
from footfall_serving.options import ServeOptions

if TYPE_CHECKING:
    from footfall_client import Event, Recommendation

ITEM = "Of an event, oldest first; repeated for more."
ACTION = "Of the --item in the same place; given for each item or for none; empty: the default."
TIME = (
    "Of the --item in the same place: epoch milliseconds, or a date and time with its offset, 2025-03-11T10:39:46Z;"
    " given for each item or for none; empty: unknown."
)

SERVED = {"grpc": f"127.0.0.1:{ServeOptions.grpc_port}", "http": f"127.0.0.1:{ServeOptions.http_port}"}
NOW = "When the request is made, written like --time; left out: the server's clock."


def recommend(
    item: Annotated[list[str] | None, typer.Option(help=ITEM)] = None,
    action: Annotated[list[str] | None, typer.Option(help=ACTION)] = None,
    time: Annotated[list[str] | None, typer.Option(help=TIME)] = None,
    now: Annotated[str, typer.Option(help=NOW)] = "",
    url: Annotated[
        str | None, typer.Option(help="host:port of the server. Default: what `serve` listens on.")
    ] = None,
    protocol: Annotated[Literal["grpc", "http"], typer.Option(help="What the url speaks.")] = "grpc",
    k: Annotated[
        int | None,
        typer.Option(
            "-k", "--top-k", help=f"Length of the list. Default: {DEFAULT_TOP_K}, or what there is."
        ),
    ] = None,
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

    Example: footfall recommend --url 127.0.0.1:8001 --item 85123A --action view --item 22423 --action cart -k 5
    """
    from time import perf_counter

    from footfall_client import Client

    history, moment = _history(item or [], action or [], time or []), _time("--now", now)
    with Client(url or SERVED[protocol], protocol, timeout=timeout, tls=tls_root or False) as client:
        client.recommend([], k=1)  # opens the connection before the clock runs
        started = perf_counter()
        answer = client.recommend(history, k, candidate, not keep_seen, user, moment)
        milliseconds = (perf_counter() - started) * 1000
    _warn(history, answer)
    result = {
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


def _history(items: list[str], actions: list[str], times: list[str]) -> list["Event"]:
    from footfall_client import Event

    for option, values in (("--action", actions), ("--time", times)):
        if values and len(values) != len(items):
            raise InputError(
                f"{option} is given {len(values)} times and --item {len(items)} times: they must match"
            )
    rows = zip(items, actions or [""] * len(items), times or [""] * len(items), strict=True)
    return [Event(item, action or None, _time("--time", time)) for item, action, time in rows]


def _time(option: str, text: str) -> datetime | int | None:
    """None where `text` is empty."""
    if not text:
        return None
    if text.removeprefix("-").isdecimal():
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{option} is {text!r}, expected epoch milliseconds or a time such as 2025-03-11T10:39:46Z"
        ) from error
    if time.tzinfo is None:
        raise InputError(f"{option} is {text!r}, which has no offset: end it with Z for UTC, or +01:00")
    return time


def _warn(history: Sequence["Event"], answer: "Recommendation") -> None:
    """Of items that read as ITEM:ACTION, and of what the server drops in silence, as DESIGN has it."""
    known = answer.action_names
    for event in history:
        head, _, action = event.item.rpartition(":")
        if head and canonical_action(action) in known:
            say(f"{event.item!r} is taken as the id of an item; an action is given by --action {action}")
        if event.action is not None and canonical_action(event.action) not in known:
            say(f"events with the action {event.action!r} are dropped: the model knows {', '.join(known)}")
    if history and not answer.user_vector.any():
        say("the model knows no event of this history: the list is that of an empty one, the popular items")
