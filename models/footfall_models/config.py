"""ModelConfig: the sizes of a model. Light, so that the help of `footfall train` is too."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from footfall.contract import MAX_EVENTS_READ
from footfall.errors import InputError, check_choice
from footfall.flag import Flag
from footfall_models.registry import ENCODERS, FED_FORWARD, HEADS, EncoderName

Appends = Literal["nothing", "mask"]
"""What a model puts behind a history when it is asked (see footfall_models.appending)."""
Positions = Literal["first", "last"]
"""Where an event's position is counted from: its history's first event on, or back from its last."""
DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a SequenceModel; counts leave padding out.

    appends: set by training, as its objective says.
    """

    num_items: int
    num_actions: int
    width: Annotated[int, Flag("Width of embeddings and layers.")] = 128
    num_layers: Annotated[int, Flag("Layers; of a family that has blocks of them, blocks.", "--layers")] = 2
    num_heads: Annotated[int, Flag("Attention heads.", "--heads")] = 2
    max_length: Annotated[int, Flag("Newest events of a history the model reads.")] = 50
    dropout: Annotated[float, Flag("Dropout rate.")] = 0.5
    encoder: Annotated[EncoderName, Flag("The family of layers; softmax is a transformer's.")] = "softmax"
    feed_forward: Annotated[int, Flag("Width of the feed-forward layers, in widths of the model.")] = 1
    positions: Annotated[Positions, Flag("Counted from a history's first event, or back from its last.")] = (
        "first"
    )
    input_norm: Annotated[bool, Flag("Normalise what is known of an event before its dropout.")] = False
    heads: tuple[str, ...] = tuple(HEADS)
    appends: Appends = "nothing"

    def __post_init__(self) -> None:
        for name in (
            "num_items",
            "num_actions",
            "width",
            "num_layers",
            "num_heads",
            "max_length",
            "feed_forward",
        ):
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
        check_choice("positions", self.positions, get_args(Positions))
        if self.feed_forward > 1 and self.encoder not in FED_FORWARD:
            raise InputError(
                f"feed_forward is {self.feed_forward}, but encoder {self.encoder} has no such layers"
            )
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
