"""`footfall simulate`: a shop's log where none is at hand."""

from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.options import Flags
from footfall_cli.output import JsonOption, show
from footfall_data.shop.options import SimulateOptions


def simulate(
    out: Annotated[Path, typer.Argument(help="The folder to be made: events/ and items.parquet.")],
    *,
    options: Annotated[Flags, SimulateOptions],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Simulate the event log of a shop: visits, funnels, drifting tastes, new items, a few robots and dirty rows.

    Example: footfall simulate shop --events 1000000
    """
    import time

    from rich.console import Console
    from rich.progress import Progress

    from footfall_data.shop.simulate import simulate as simulate_shop

    wanted = SimulateOptions(**options)
    events = wanted.events
    began = time.perf_counter()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulating", total=events)
        made = simulate_shop(
            out, wanted, overwrite=overwrite, advance=lambda count: progress.advance(task, count)
        )
    seconds = time.perf_counter() - began
    text = (
        f"{made['log']}: {events:,} events of {made['users']:,} users and {made['items']:,} items in"
        f" {seconds:.1f} s, {events / seconds:,.0f} events/s"
    )
    show({**made, "seconds": seconds, "events_per_second": events / seconds}, text, as_json)
