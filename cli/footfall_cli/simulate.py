"""`footfall simulate`: a shop's log where none is at hand."""

from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.output import JsonOption, show


def simulate(
    out: Annotated[Path, typer.Argument(help="The folder to be made: events/ and items.parquet.")],
    events: Annotated[int, typer.Option(help="Rows of the log.")] = 1_000_000,
    users: Annotated[int | None, typer.Option(help="Left out: in proportion to the events.")] = None,
    items: Annotated[int | None, typer.Option(help="Left out: in proportion to the events.")] = None,
    days: Annotated[int, typer.Option(help="Time span of the log.")] = 90,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Simulate the event log of a shop: visits, funnels, drifting tastes, new items, a few robots and dirty rows.

    Example: footfall simulate shop --events 1000000
    """
    import time

    from rich.console import Console
    from rich.progress import Progress

    from footfall_data.shop.simulate import SimulateOptions
    from footfall_data.shop.simulate import simulate as simulate_shop

    options = SimulateOptions(events=events, users=users, items=items, days=days, seed=seed)
    began = time.perf_counter()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulating", total=events)
        made = simulate_shop(
            out, options, overwrite=overwrite, advance=lambda count: progress.advance(task, count)
        )
    seconds = time.perf_counter() - began
    text = (
        f"{made['log']}: {events:,} events of {made['users']:,} users and {made['items']:,} items in"
        f" {seconds:.1f} s, {events / seconds:,.0f} events/s"
    )
    show({**made, "seconds": seconds, "events_per_second": events / seconds}, text, as_json)
