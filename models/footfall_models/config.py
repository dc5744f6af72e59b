"""ModelConfig: the sizes of a model. Light, so that the help of `footfall train` is too."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from footfall.contract import MAX_EVENTS_READ
from footfall.errors import InputError, check_choice
from footfall.flag import Flag
from footfall_models.registry import ENCODERS, HEADS, EncoderName

Appends = Literal["nothing", "mask"]
"""What a model puts behind a history when it is asked (see footfall_models.appending)."""
DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a SequenceModel; counts leave padding out.

    appends: set by training, as its objective says.
    """

    num_items: int
    num_actions: int
    width: Annotated[int, Flag("Width of embeddings and layers.")] = 128
    num_layers: Annotated[int, Flag("Transformer blocks.", "--layers")] = 2
    num_heads: Annotated[int, Flag("Attention heads.", "--heads")] = 2
    max_length: Annotated[int, Flag("Newest events of a history the model reads.")] = 50
    dropout: Annotated[float, Flag("Dropout rate.")] = 0.5
    encoder: Annotated[EncoderName, Flag("A transformer's layers, or HSTU's.")] = "softmax"
    heads: tuple[str, ...] = tuple(HEADS)
    appends: Appends = "nothing"

    def __post_init__(self) -> None:
        for name in ("num_items", "num_actions", "width", "num_layers", "num_heads", "max_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.width % self.num_heads:
            raise InputError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        if self.max_length > MAX_EVENTS_READ:
            raise InputError(
                f"max_length is {self.max_length}, a server reads at most {MAX_EVENTS_READ} events of a history"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}, it must be in [0, 1)")
        check_choice("encoder", self.encoder, ENCODERS)
        for head in self.heads:
            check_choice("head", head, HEADS)
        check_choice("appends", self.appends, get_args(Appends))

    @property
    def max_tokens(self) -> int:
        """Of a history and what is appended to it."""
        return self.max_length + (self.appends != "nothing")


def check_device_name(device: str) -> None:
    """Whether this machine has the device is for footfall_models.device to say."""
    if not DEVICE.fullmatch(device):
        raise InputError(f"unknown device {device!r}; there are cpu, cuda and cuda:N")
