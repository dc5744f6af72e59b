"""`footfall train`: a data set becomes a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.output import JsonOption, show
from footfall_data.dataset import Dataset, SplitName
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import ModelConfig
from footfall_models.registry import EncoderName
from footfall_training.options import LossName, TrainOptions, TrainPrecision


def train(
    dataset: Annotated[Path, typer.Argument(help="A folder written by `footfall prepare`.")],
    out: Annotated[Path, typer.Option(help="The checkpoint's folder, to be made.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A checkpoint of the same lineage whose weights to begin with."),
    ] = None,
    width: Annotated[int, typer.Option(help="Width of embeddings and layers.")] = ModelConfig.width,
    num_layers: Annotated[int, typer.Option("--layers", help="Transformer blocks.")] = ModelConfig.num_layers,
    num_heads: Annotated[int, typer.Option("--heads", help="Attention heads.")] = ModelConfig.num_heads,
    max_length: Annotated[
        int, typer.Option(help="Newest events of a history the model reads.")
    ] = ModelConfig.max_length,
    dropout: Annotated[float, typer.Option(help="Dropout rate.")] = ModelConfig.dropout,
    encoder: Annotated[
        EncoderName, typer.Option(help="A transformer's layers, or HSTU's.")
    ] = ModelConfig.encoder,
    epochs: Annotated[int, typer.Option(help="Passes over the data at most.")] = TrainOptions.epochs,
    batch_size: Annotated[
        int,
        typer.Option(help="Histories a batch on average; all batches have about as many events to predict."),
    ] = TrainOptions.batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="AdamW's, after warm-up.")
    ] = TrainOptions.learning_rate,
    weight_decay: Annotated[float, typer.Option(help="AdamW's.")] = TrainOptions.weight_decay,
    warmup_steps: Annotated[int, typer.Option(help="Batches of linear warm-up.")] = TrainOptions.warmup_steps,
    max_grad_norm: Annotated[
        float, typer.Option(help="Gradients are clipped to this norm.")
    ] = TrainOptions.max_grad_norm,
    loss: Annotated[LossName, typer.Option(help="Softmax over all or some items.")] = TrainOptions.loss,
    num_negatives: Annotated[
        int, typer.Option("--negatives", help="Of the sampled softmax.")
    ] = TrainOptions.num_negatives,
    head_weight: Annotated[
        float, typer.Option(help="Weight of each loss beside the items'.")
    ] = TrainOptions.head_weight,
    patience: Annotated[
        int, typer.Option(help="Epochs without a better validation NDCG@10.")
    ] = TrainOptions.patience,
    validation_users: Annotated[
        int, typer.Option(help="Users validated on, at most.")
    ] = TrainOptions.validation_users,
    save_every: Annotated[int, typer.Option(help="Batches between saved states.")] = TrainOptions.save_every,
    split: Annotated[SplitName, typer.Option(help="How events are held out.")] = TrainOptions.split,
    seed: Annotated[int, typer.Option(help="Of weights, order and dropout.")] = TrainOptions.seed,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = TrainOptions.device,
    implementation: Annotated[
        ImplementationName | None,
        typer.Option(help="Of the kernels; by default triton on cuda, reference (plain torch) on cpu."),
    ] = TrainOptions.implementation,
    precision: Annotated[
        TrainPrecision, typer.Option(help="Of activations; bf16 for a GPU's tensor cores.")
    ] = TrainOptions.precision,
    as_json: JsonOption = False,
) -> None:
    """Train a sequence model on a prepared data set.

    Example: footfall train dataset --out checkpoint --epochs 10
    """
    from footfall_training.checkpoint import Checkpoint
    from footfall_training.train import train as train_model

    data = Dataset.open(dataset)
    config = ModelConfig(
        num_items=len(data.items),
        num_actions=len(data.actions),
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        max_length=max_length,
        dropout=dropout,
        encoder=encoder,
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
        head_weight=head_weight,
        patience=patience,
        validation_users=validation_users,
        save_every=save_every,
        split=split,
        seed=seed,
        device=device,
        implementation=implementation,
        precision=precision,
    )
    begun = Checkpoint.open(source) if source else None
    metrics = train_model(data, out, config, options, resume=resume, source=begun)
    best = metrics["validation"]
    text = (
        f"{out}: validation Recall@10 {best['recall@10']:.4f}, NDCG@10 {best['ndcg@10']:.4f} at epoch"
        f" {metrics['best_epoch']} of {metrics['epochs']}; {metrics['events_per_second']:,.0f} events/s"
    )
    show({"checkpoint": str(out), **metrics}, text, as_json)
