"""`footfall train`: a data set becomes a checkpoint."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from footfall_cli.output import JsonOption, show


def train(
    dataset: Annotated[Path, typer.Argument(help="A folder written by `footfall prepare`.")],
    out: Annotated[Path, typer.Option(help="The checkpoint's folder, to be made.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    width: Annotated[int, typer.Option(help="Width of embeddings and layers.")] = 128,
    num_layers: Annotated[int, typer.Option("--layers", help="Transformer blocks.")] = 2,
    num_heads: Annotated[int, typer.Option("--heads", help="Attention heads.")] = 2,
    max_length: Annotated[int, typer.Option(help="Newest events of a history the model reads.")] = 50,
    dropout: Annotated[float, typer.Option(help="Dropout rate.")] = 0.5,
    epochs: Annotated[int, typer.Option(help="Passes over the data at most.")] = 12,
    batch_size: Annotated[int, typer.Option(help="Histories a batch.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="AdamW's, after warm-up.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(help="AdamW's.")] = 0.01,
    warmup_steps: Annotated[int, typer.Option(help="Batches of linear warm-up.")] = 200,
    max_grad_norm: Annotated[float, typer.Option(help="Gradients are clipped to this norm.")] = 1.0,
    loss: Annotated[
        Literal["full", "sampled"], typer.Option(help="Softmax over all or some items.")
    ] = "full",
    num_negatives: Annotated[int, typer.Option("--negatives", help="Of the sampled softmax.")] = 1024,
    action_weight: Annotated[float, typer.Option(help="Weight of the next-action loss.")] = 0.1,
    patience: Annotated[int, typer.Option(help="Epochs without a better validation NDCG@10.")] = 5,
    validation_users: Annotated[int, typer.Option(help="Users validated on, at most.")] = 10_000,
    save_every: Annotated[int, typer.Option(help="Batches between saved states.")] = 500,
    split: Annotated[
        Literal["leave_one_out", "time"], typer.Option(help="How events are held out.")
    ] = "leave_one_out",
    seed: Annotated[int, typer.Option(help="Of weights, order and dropout.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Train a sequence model on a prepared data set.

    Example: footfall train dataset --out checkpoint --epochs 10
    """
    import torch

    from footfall.errors import InputError
    from footfall_training.dataset import Dataset
    from footfall_training.model import ModelConfig
    from footfall_training.options import TrainOptions
    from footfall_training.train import train as train_model

    if device != "cpu" and not torch.cuda.is_available():
        raise InputError(
            f"device {device} asks for a GPU and this machine offers torch none; use --device cpu"
        )
    data = Dataset.open(dataset)
    config = ModelConfig(
        num_items=len(data.items),
        num_actions=len(data.actions),
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        max_length=max_length,
        dropout=dropout,
    )
    options = TrainOptions(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        max_grad_norm=max_grad_norm,
        loss=loss,
        num_negatives=num_negatives,
        action_weight=action_weight,
        patience=patience,
        validation_users=validation_users,
        save_every=save_every,
        split=split,
        seed=seed,
        device=device,
    )
    metrics = train_model(data, out, config, options, resume=resume)
    best = metrics["validation"]
    text = (
        f"{out}: validation Recall@10 {best['recall@10']:.4f}, NDCG@10 {best['ndcg@10']:.4f} at epoch"
        f" {metrics['best_epoch']} of {metrics['epochs']}; {metrics['events_per_second']:,.0f} events/s"
    )
    show({"checkpoint": str(out), **metrics}, text, as_json)
