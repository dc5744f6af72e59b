"""TrainOptions: how `footfall train` trains. Light, so that the command's help is too."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from footfall.errors import InputError, check_choice, check_seed
from footfall.flag import Flag
from footfall_data.dataset import SPLIT_NAMES, SplitName
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import check_device_name

ObjectiveName = Literal["next_item", "prefixes"]
LossName = Literal["full", "sampled"]
TrainPrecision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class TrainOptions:
    """batch_size counts windows of a history, on average: every batch has the targets of that many windows of mean
    length (see footfall_training.batches).

    implementation None: the device's (see footfall_models.device). precision: of activations and matrix products;
    weights, their gradients and the optimizer's state stay fp32. objective: see footfall_training.objectives.
    """

    epochs: Annotated[int, Flag("Passes over the data at most.")] = 12
    batch_size: Annotated[
        int, Flag("Histories a batch on average; all batches have about as many events to predict.")
    ] = 128
    learning_rate: Annotated[
        float, Flag("AdamW's, after warm-up; of the sampled softmax the items' rows have 40 times it.")
    ] = 2e-3
    weight_decay: Annotated[float, Flag("AdamW's.")] = 0.01
    warmup_steps: Annotated[int, Flag("Batches of linear warm-up.")] = 200
    max_grad_norm: Annotated[float, Flag("Gradients are clipped to this norm.")] = 1.0
    objective: Annotated[
        ObjectiveName, Flag("Histories tell after each event, or each beginning of one is a row of its own.")
    ] = "next_item"
    loss: Annotated[LossName, Flag("Softmax over all or some items.")] = "full"
    num_negatives: Annotated[int, Flag("Of the sampled softmax.", "--negatives")] = 1024
    head_weight: Annotated[float, Flag("Weight of each loss beside the items'.")] = 0.1
    patience: Annotated[int, Flag("Epochs without a better validation NDCG@10.")] = 5
    validation_users: Annotated[int, Flag("Users validated on, at most.")] = 10_000
    save_every: Annotated[int, Flag("Batches between saved states.")] = 500
    split: Annotated[SplitName, Flag("How events are held out.")] = "leave_one_out"
    seed: Annotated[int, Flag("Of weights, order and dropout.")] = 0
    device: Annotated[str, Flag("cpu, cuda or cuda:N.")] = "cpu"
    implementation: Annotated[
        ImplementationName | None,
        Flag("Of the kernels; by default triton on cuda, reference (plain torch) on cpu."),
    ] = None
    precision: Annotated[TrainPrecision, Flag("Of activations; bf16 for a GPU's tensor cores.")] = "fp32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "num_negatives", "patience", "validation_users", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, it must be at least 1")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}, it must be a number above 0")
        for name in ("weight_decay", "head_weight", "warmup_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}, it must be a number of at least 0")
        check_seed(self.seed)
        check_choice("loss", self.loss, get_args(LossName))
        check_choice("precision", self.precision, get_args(TrainPrecision))
        check_choice("split", self.split, SPLIT_NAMES)
        if self.implementation is not None:
            check_choice("implementation", self.implementation, get_args(ImplementationName))
        check_device_name(self.device)
