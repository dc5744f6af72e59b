"""TrainOptions: how to train, apart from the model's sizes."""

from dataclasses import dataclass
from typing import Literal, get_args

from footfall.errors import InputError
from footfall_training.dataset import SPLIT_NAMES, SplitName

LossName = Literal["full", "sampled"]


@dataclass(frozen=True)
class TrainOptions:
    """batch_size counts windows of a history; *_every and warmup_steps count batches; patience counts epochs."""

    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 200
    max_grad_norm: float = 1.0
    loss: LossName = "full"
    num_negatives: int = 1024
    action_weight: float = 0.1
    patience: int = 5
    validation_users: int = 10_000
    save_every: int = 500
    split: SplitName = "leave_one_out"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "num_negatives", "patience", "validation_users", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate is {self.learning_rate}, it must be above 0")
        if self.loss not in get_args(LossName):
            raise InputError(f"unknown loss {self.loss!r}; there are {', '.join(get_args(LossName))}")
        if self.split not in SPLIT_NAMES:
            raise InputError(f"unknown split {self.split!r}; there are {', '.join(SPLIT_NAMES)}")
