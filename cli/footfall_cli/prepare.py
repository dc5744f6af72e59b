"""`footfall prepare`: from a log to a data set."""

from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typer import Argument, Option

from footfall_cli.options import Flags
from footfall_cli.output import JsonOption, say, show
from footfall_data.options import PrepareOptions

LOGS = "Files or folders of CSV, TSV, JSON lines (each also .gz, .zst) or Parquet."

Column = Annotated[str | None, Option(metavar="NAME", help="The log's column; the preset's if left out.")]
InvoiceColumn = Annotated[str | None, Option(metavar="NAME", help="Starts with C in a cancellation.")]
QuantityColumn = Annotated[str | None, Option(metavar="NAME", help="Negative in a cancellation.")]


def prepare(
    logs: Annotated[list[Path], Argument(metavar="LOG...", help=LOGS)],
    out: Annotated[Path, Option(help="The data set's folder, to be made.")],
    *,
    user_column: Column = None,
    item_column: Column = None,
    action_column: Column = None,
    time_column: Column = None,
    title_column: Column = None,
    category_column: Column = None,
    price_column: Column = None,
    invoice_column: InvoiceColumn = None,
    quantity_column: QuantityColumn = None,
    options: Annotated[Flags, PrepareOptions],
    json: JsonOption = False,
) -> None:
    """Turn a shop's event log into a data set: clean, packed histories, splits and a report.

    Example: footfall prepare events.parquet --out dataset --items items.csv
    """
    from footfall_data.prepare import prepare as prepare_log
    from footfall_data.report import preset_line, render

    columns = {
        "user": user_column,
        "item": item_column,
        "action": action_column,
        "time": time_column,
        "title": title_column,
        "category": category_column,
        "price": price_column,
        "invoice": invoice_column,
        "quantity": quantity_column,
    }
    named = {role: column for role, column in columns.items() if column is not None}
    wanted = PrepareOptions(columns=named, **options)
    with _bar() as bar:
        task = bar.add_task("opening", total=None)
        report = prepare_log(
            logs, out, wanted, lambda step, events: bar.update(task, description=step, completed=events)
        )
    say(f"preset: {preset_line(report)}")
    show(report, render(report), json)


def _bar() -> Progress:
    count = TextColumn("{task.description} {task.completed:,.0f} events")
    console = Console(stderr=True)
    return Progress(SpinnerColumn(), count, TimeElapsedColumn(), console=console, transient=True)
