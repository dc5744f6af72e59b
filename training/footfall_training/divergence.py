"""Divergence: notices that a run's losses or gradients are no numbers any more, without waiting for the device."""

import torch
from torch import Tensor, nn

from footfall.errors import FootfallError

NEVER = 2**62


class Diverged(FootfallError):
    """A loss, a gradient or the weights are not finite."""


class DivergenceWatch:
    """The first step at which each of `names` was not finite.

    `look` only queues work on the device: to read a value at every step would make it wait for the host. `check`
    reads; until then a bad step may have spoilt the weights, so that nothing may be kept of them before it.
    """

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self._names = names
        self._first = torch.full((len(names),), NEVER, device=device)

    def look(self, step: int, values: tuple[Tensor, ...]) -> None:
        """`values`: scalars on the device, in the order of `names`, of `step`."""
        finite = torch.stack([value.detach().float() for value in values]).isfinite()
        self._first = torch.where(finite, self._first, self._first.clamp(max=step))

    def check(self) -> tuple[int, str] | None:
        """The first bad step and the first of `names` that was not finite there; None where all is well."""
        first, place = self._first.min(dim=0)
        return None if int(first) == NEVER else (int(first), self._names[int(place)])


def first_not_finite(model: nn.Module) -> str | None:
    """The name of a parameter with an entry that is not finite, or None. Waits for the device once."""
    parameters = dict(model.named_parameters())
    finite = torch.stack([parameter.detach().isfinite().all() for parameter in parameters.values()])
    bad = [name for name, fine in zip(parameters, finite.tolist(), strict=True) if not fine]
    return bad[0] if bad else None
