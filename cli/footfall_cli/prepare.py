"""`footfall prepare`: from a log to a data set."""

from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typer import Argument, Option

from footfall_cli.output import JsonOption, say, show

PRESET = "retailrocket, online-retail, taobao, movielens, amazon or footfall; else told by its columns."
LOGS = "Files or folders of CSV, TSV, JSON lines (each also .gz, .zst) or Parquet."
ACTION = "Action of every event of a log that has no action column. Default: the preset's, else view."
REPEAT = "Drop the same user, item and action again within N seconds; 0: only exact duplicates, -1: nothing."
ROBOT = "Drop users with more than N events in any minute; 0: nobody. Default: the preset's, else 60."
UNIT = "Of numeric times; order: the column numbers events in their order, and no gaps in time are known."
BAD = "Drop and count rows that cannot be read, such as a time that is none; the default refuses the log."
ENCODING = "Of text files, such as latin-1, cp1252 or utf-16. Default: by the file's mark, else UTF-8."
STRICT = "Refuse rows with missing fields or ids too long instead of dropping them."

Column = Annotated[str | None, Option(metavar="NAME", help="The log's column; the preset's if left out.")]
InvoiceColumn = Annotated[str | None, Option(metavar="NAME", help="Starts with C in a cancellation.")]
QuantityColumn = Annotated[str | None, Option(metavar="NAME", help="Negative in a cancellation.")]
TimeFormat = Annotated[str | None, Option(help="How text times are written, as in strptime: %d.%m.%Y %H:%M")]


def prepare(
    logs: Annotated[list[Path], Argument(metavar="LOG...", help=LOGS)],
    out: Annotated[Path, Option(help="The data set's folder, to be made.")],
    preset: Annotated[str | None, Option(help=PRESET)] = None,
    user_column: Column = None,
    item_column: Column = None,
    action_column: Column = None,
    time_column: Column = None,
    title_column: Column = None,
    category_column: Column = None,
    price_column: Column = None,
    invoice_column: InvoiceColumn = None,
    quantity_column: QuantityColumn = None,
    action: Annotated[str | None, Option(help=ACTION)] = None,
    time_unit: Annotated[Literal["auto", "s", "ms", "us", "ns", "order"], Option(help=UNIT)] = "auto",
    time_format: TimeFormat = None,
    encoding: Annotated[str | None, Option(help=ENCODING)] = None,
    items: Annotated[Path | None, Option(help="A table of item_id, title, category, price.")] = None,
    strict: Annotated[bool, Option("--strict", help=STRICT)] = False,
    drop_bad_rows: Annotated[bool, Option("--drop-bad-rows", help=BAD)] = False,
    keep_cancellations: Annotated[bool, Option("--keep-cancellations", help="Do not drop them.")] = False,
    repeat_seconds: Annotated[float, Option(metavar="N", help=REPEAT)] = 5.0,
    robot_events_per_minute: Annotated[int | None, Option(metavar="N", help=ROBOT)] = None,
    k_core: Annotated[int, Option(metavar="K", help="Least events of every user and item; 1: any.")] = 2,
    extend: Annotated[Path | None, Option(help="Continue this data set's vocabularies.")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace OUT where it exists.")] = False,
    json: JsonOption = False,
) -> None:
    """Turn a shop's event log into a data set: clean, packed histories, splits and a report.

    Example: footfall prepare events.parquet --out dataset --items items.csv
    """
    from footfall_data.prepare import PrepareOptions
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
    options = PrepareOptions(
        preset=preset,
        columns={role: column for role, column in columns.items() if column is not None},
        action=action,
        time_unit=time_unit,
        time_format=time_format,
        encoding=encoding,
        items=items,
        strict=strict,
        drop_bad_rows=drop_bad_rows,
        keep_cancellations=keep_cancellations,
        repeat_seconds=repeat_seconds,
        robot_events_per_minute=robot_events_per_minute,
        k_core=k_core,
        extend=extend,
        overwrite=overwrite,
    )
    with _bar() as bar:
        task = bar.add_task("opening", total=None)
        report = prepare_log(
            logs, out, options, lambda step, events: bar.update(task, description=step, completed=events)
        )
    say(f"preset: {preset_line(report)}")
    show(report, render(report), json)


def _bar() -> Progress:
    count = TextColumn("{task.description} {task.completed:,.0f} events")
    console = Console(stderr=True)
    return Progress(SpinnerColumn(), count, TimeElapsedColumn(), console=console, transient=True)
