"""`footfall train`: a data set becomes a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.options import Flags
from footfall_cli.output import JsonOption, show
from footfall_data.dataset import Dataset
from footfall_models.config import ModelConfig
from footfall_training.options import TrainOptions
from footfall_training.preset import NO_PRESET, Preset, PresetName


def train(
    dataset: Annotated[Path, typer.Argument(help="A folder written by `footfall prepare`.")],
    out: Annotated[Path, typer.Option(help="The checkpoint's folder, to be made.")],
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A checkpoint of the same lineage whose weights to begin with."),
    ] = None,
    preset: Annotated[
        PresetName | None, typer.Option(help="A family as its paper trains it; options given beside it win.")
    ] = None,
    sizes: Annotated[Flags, ModelConfig],
    options: Annotated[Flags, TrainOptions],
    as_json: JsonOption = False,
) -> None:
    """Train a sequence model on a prepared data set.

    Example: footfall train dataset --out checkpoint --epochs 10
    """
    from footfall_training.checkpoint import Checkpoint
    from footfall_training.train import train as train_model

    named = Preset.named(preset) if preset else NO_PRESET
    data = Dataset.open(dataset)
    config = ModelConfig(num_items=len(data.items), num_actions=len(data.actions), **sizes.over(named.sizes))
    begun = Checkpoint.open(source) if source else None
    metrics = train_model(
        data, out, config, TrainOptions(**options.over(named.training)), resume=resume, source=begun
    )
    best = metrics["validation"]
    text = (
        f"{out}: validation Recall@10 {best['recall@10']:.4f}, NDCG@10 {best['ndcg@10']:.4f} at epoch"
        f" {metrics['best_epoch']} of {metrics['epochs']}; {metrics['events_per_second']:,.0f} events/s"
    )
    show({"checkpoint": str(out), **metrics}, text, as_json)
