"""`footfall evaluate`: a checkpoint beside the baselines, the whole catalogue ranked."""

from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.options import Flags
from footfall_cli.output import JsonOption
from footfall_training.evaluation.options import EvaluateOptions

SHOWN = ("recall@1", "recall@10", "recall@100", "ndcg@10", "ndcg@100", "mrr@10")


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A folder written by `footfall train`.")],
    dataset: Annotated[Path, typer.Argument(help="A folder written by `footfall prepare`.")],
    *,
    options: Annotated[Flags, EvaluateOptions],
    as_json: JsonOption = False,
) -> None:
    """Rank the whole catalogue for every user's held-out event, by the model and by four baselines.

    Example: footfall evaluate checkpoint dataset
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from footfall_cli.output import say
    from footfall_data.dataset import Dataset
    from footfall_training.evaluation.evaluation import evaluate as evaluate_model

    data = Dataset.open(dataset)
    wanted = EvaluateOptions(**options)
    say(f"ranking the whole catalogue for the {wanted.part} events of {dataset}")
    result = evaluate_model(checkpoint, data, wanted)
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
