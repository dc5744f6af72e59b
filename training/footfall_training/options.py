"""What `footfall train` can be told: the model's sizes and how to train. Light, so that the command's help is too."""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from footfall.errors import InputError, check_choice
from footfall_kernels.attention_rules import MAX_LENGTH
from footfall_kernels.implementations import ImplementationName as ImplementationName
from footfall_training.dataset import SPLIT_NAMES, SplitName

LossName = Literal["full", "sampled"]
TrainPrecision = Literal["fp32", "bf16"]
EncoderName = Literal["softmax", "hstu"]
DEVICE = re.compile(r"cpu|cuda(:\d+)?")
SEEDS = 2**63


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a SequenceModel; counts leave padding out."""

    num_items: int
    num_actions: int
    width: int = 128
    num_layers: int = 2
    num_heads: int = 2
    max_length: int = 50
    dropout: float = 0.5
    encoder: EncoderName = "softmax"

    def __post_init__(self) -> None:
        for name in ("num_items", "num_actions", "width", "num_layers", "num_heads", "max_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.width % self.num_heads:
            raise InputError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        if self.max_length > MAX_LENGTH:
            raise InputError(f"max_length is {self.max_length}, attention takes at most {MAX_LENGTH}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}, it must be in [0, 1)")
        check_choice("encoder", self.encoder, get_args(EncoderName))


@dataclass(frozen=True)
class TrainOptions:
    """batch_size counts windows of a history; *_every and warmup_steps count batches; patience counts epochs.

    implementation None: the device's (see footfall_training.device). precision: of activations and matrix products;
    weights, their gradients and the optimizer's state stay fp32.
    """

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
    implementation: ImplementationName | None = None
    precision: TrainPrecision = "fp32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "num_negatives", "patience", "validation_users", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, it must be at least 1")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}, it must be a number above 0")
        for name in ("weight_decay", "action_weight", "warmup_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}, it must be a number of at least 0")
        check_seed(self.seed)
        check_choice("loss", self.loss, get_args(LossName))
        check_choice("precision", self.precision, get_args(TrainPrecision))
        check_choice("split", self.split, SPLIT_NAMES)
        if self.implementation is not None:
            check_choice("implementation", self.implementation, get_args(ImplementationName))
        check_device_name(self.device)


def check_seed(seed: int) -> None:
    """numpy takes no negative seeds, torch none past 64 bits."""
    if not 0 <= seed < SEEDS:
        raise InputError(f"seed is {seed}, it must be in 0..{SEEDS - 1}")


def check_device_name(device: str) -> None:
    """Whether this machine has the device is for footfall_training.device to say."""
    if not DEVICE.fullmatch(device):
        raise InputError(f"unknown device {device!r}; there are cpu, cuda and cuda:N")
