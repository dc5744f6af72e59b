"""`footfall evaluate`: a checkpoint beside the baselines, the whole catalogue ranked."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from footfall_cli.output import JsonOption
from footfall_data.dataset import SplitName
from footfall_kernels.implementations import ImplementationName

SHOWN = ("recall@1", "recall@10", "recall@100", "ndcg@10", "ndcg@100", "mrr@10")


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A folder written by `footfall train`.")],
    dataset: Annotated[Path, typer.Argument(help="A folder written by `footfall prepare`.")],
    split: Annotated[
        SplitName | None,
        typer.Option(help="How events are held out; left out: as the checkpoint was trained."),
    ] = None,
    part: Annotated[Literal["test", "validation"], typer.Option(help="Which held-out event.")] = "test",
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="Rank items of the history too.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    implementation: Annotated[
        ImplementationName | None,
        typer.Option(help="Of the kernels; by default triton on cuda, reference (plain torch) on cpu."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the whole catalogue for every user's held-out event, by the model and by two baselines.

    Example: footfall evaluate checkpoint dataset
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from footfall_cli.output import say
    from footfall_data.dataset import Dataset
    from footfall_training.evaluation.evaluation import evaluate as evaluate_model

    data = Dataset.open(dataset)
    say(f"ranking the whole catalogue for the {part} events of {dataset}")
    result = evaluate_model(
        checkpoint, data, split, part, keep_seen=keep_seen, device=device, implementation=implementation
    )
    if as_json:
        print(json.dumps(result))
        return
    console = Console()
    table = Table(f"{result['users']:,} users", *SHOWN)
    for name, metrics in result["ranking"].items():
        table.add_row(name, *(f"{metrics[key]:.4f}" for key in SHOWN))
    console.print(table)
    table = Table("next action", "share", "auc", "log_loss", "ne", "brier", "ece")
    for action, metrics in result["actions"].items():
        table.add_row(action, *("-" if value is None else f"{value:.4f}" for value in metrics.values()))
    console.print(table)
