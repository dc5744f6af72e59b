"""AttentionRules: which pairs of a history see each other, and what their scores become."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from footfall.errors import InputError, check_choice

Kind = Literal["softmax", "silu"]
NO_WINDOW = 1 << 30
"""A window longer than every sequence: all of the past is seen."""
MAX_LENGTH = 131_072
"""Events of one sequence at most: a tile's number has 12 bits in a plan (see tile_plan)."""


@dataclass(frozen=True)
class AttentionRules:
    """kind: softmax, or silu (HSTU, arXiv 2402.17152, eq. 2): score * sigmoid(score) / normaliser, no row sum.

    Of n events, the last `candidates` of a sequence see the n - candidates before them, its history, and themselves;
    all stand at the position right behind the history. Others see themselves and the past. With a window an event
    sees the newest `window` positions, its own among them, and the first `prefix` of the history.
    """

    kind: Kind
    scale: float
    normaliser: float = 1.0
    window: int = NO_WINDOW
    prefix: int = 0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, get_args(Kind))
        for name in ("scale", "normaliser"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value}, it must be a finite number above 0")
        if self.kind == "softmax" and self.normaliser != 1.0:
            raise InputError(
                f"normaliser is {self.normaliser}, but softmax normalises its rows itself: leave it 1"
            )
        if self.window < 1 or self.prefix < 0:
            raise InputError(
                f"window is {self.window} and prefix {self.prefix}, they must be at least 1 and 0"
            )
