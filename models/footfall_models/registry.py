"""Registry: encoders and heads by name. Light, so that the help of `footfall train` is too."""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from footfall_models.config import ModelConfig
    from footfall_models.encoders.encoder import Encoder
    from footfall_models.heads.head import Head

EncoderName = Literal["softmax", "hstu", "bsarec", "gru4rec", "nextitnet"]
ENCODERS: dict[EncoderName, str] = {
    "softmax": "footfall_models.encoders.softmax:SoftmaxEncoder",
    "hstu": "footfall_models.encoders.hstu:HstuEncoder",
    "bsarec": "footfall_models.encoders.bsarec:BsarecEncoder",
    "gru4rec": "footfall_models.encoders.gru4rec:Gru4recEncoder",
    "nextitnet": "footfall_models.encoders.nextitnet:NextitnetEncoder",
}
FED_FORWARD: tuple[EncoderName, ...] = ("softmax", "bsarec")
"""Those with feed-forward layers."""
HEADS = {"action": "footfall_models.heads.action:ActionHead"}
"""Each has a tensor in contract.HEADS."""


def find_encoder(name: EncoderName) -> "type[Encoder]":
    """The family of that name; importing it imports torch."""
    family: type[Encoder] = resolve_name(ENCODERS[name])
    return family


def find_head(name: str) -> "Callable[[ModelConfig], Head]":
    """The class of the head of that name; importing it imports torch."""
    head: Callable[[ModelConfig], Head] = resolve_name(HEADS[name])
    return head
