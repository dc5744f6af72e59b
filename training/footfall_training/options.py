"""TrainOptions: how `footfall train` trains. Light, so that the command's help is too."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from footfall.errors import InputError, check_choice, check_seed
from footfall_data.dataset import SPLIT_NAMES, SplitName
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import check_device_name

LossName = Literal["full", "sampled"]
TrainPrecision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class TrainOptions:
    """batch_size counts windows of a history, on average: every batch has the targets of that many windows of mean
    length (see footfall_training.batches). *_every and warmup_steps count batches; patience counts epochs.

    implementation None: the device's (see footfall_models.device). precision: of activations and matrix products;
    weights, their gradients and the optimizer's state stay fp32. objective: see footfall_training.objectives.
    """

    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 200
    max_grad_norm: float = 1.0
    objective: str = "next_item"
    loss: LossName = "full"
    num_negatives: int = 1024
    head_weight: float = 0.1
    patience: int = 5
    validation_users: int = 10_000
    save_every: int = 500
    split: SplitName = "leave_one_out"
    seed: int = 0
    device: str = "cpu"
    implementation: ImplementationName | None = None
    precision: TrainPrecision = "fp32"

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
