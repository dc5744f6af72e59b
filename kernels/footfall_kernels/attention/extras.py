"""Extras: what attention may be given besides queries, keys and values."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Extras:
    """What may be left out: candidates int [sequences], time int32 [total, 2] (seconds), tables [heads, buckets]."""

    num_candidates: Tensor | None = None
    time: Tensor | None = None
    position_bias: Tensor | None = None
    time_bias: Tensor | None = None

    @property
    def num_buckets(self) -> tuple[int, int]:
        """Buckets of position_bias and of time_bias, 0 where there is no such table."""
        position, time = (
            0 if table is None else table.shape[1] for table in (self.position_bias, self.time_bias)
        )
        return position, time
