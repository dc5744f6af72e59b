"""Registry: the families of models by name. Light, so that the help of `footfall train` is too."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from footfall_models.encoders.encoder import Encoder

EncoderName = Literal["softmax", "hstu"]
ENCODERS: dict[EncoderName, str] = {
    "softmax": "footfall_models.encoders.softmax:SoftmaxEncoder",
    "hstu": "footfall_models.encoders.hstu:HstuEncoder",
}


def find_encoder(name: EncoderName) -> "type[Encoder]":
    """The family of that name; importing it imports torch."""
    family: type[Encoder] = resolve_name(ENCODERS[name])
    return family
