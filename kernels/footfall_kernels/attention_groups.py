"""Groups: sequences of like length padded together, so that dense tensors waste little."""

from dataclasses import dataclass

import torch
from torch import Tensor

from footfall_kernels.attention_extras import Extras
from footfall_kernels.attention_pairs import number_pairs
from footfall_kernels.attention_rules import AttentionRules
from footfall_kernels.buckets import bucket_of_reference

LENGTH_RATIO = 1.25
"""Longest to shortest sequence of one group."""
GROUP_PAIRS = 1 << 19
"""Pairs of one group at most, unless it is one sequence."""
HELD_PAIRS = 1 << 23
"""Pairs whose numbers a batch's groups hold for all layers, 64 MiB; the rest are numbered anew in every layer."""


@dataclass(frozen=True)
class Group:
    """One padded group, int64 tensors.

    slot [group, length]: packed row of each cell; behind a sequence's end its first row, which adds nothing to what
    the others see. padding: the flat cells behind the ends. history [group]: events before the candidates, empty
    where there are none. pair [group or 1, length, length]: see attention_pairs; empty where too many to hold.
    """

    slot: Tensor
    padding: Tensor
    history: Tensor
    pair: Tensor

    def pairs(
        self,
        start: int,
        end: int,
        window: int,
        prefix: int,
        num_buckets: tuple[int, int],
        time: Tensor | None,
    ) -> Tensor:
        """Numbers of the pairs of queries start:end with keys :end."""
        if self.pair.numel():
            return self.pair[:, start:end, :end]
        return number_pairs(
            start, end, window, prefix, num_buckets, bucket_of_reference, device=self.slot.device,
            time=time[self.slot].long() if time is not None and num_buckets[1] else None,
            history=self.history if self.history.numel() else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Groups:
    """All sequences but the empty. place int64 [total]: each packed row's cell, counted through all groups."""

    groups: tuple[Group, ...]
    place: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        return [self.place, *(tensor for group in self.groups for tensor in vars(group).values())]

    @classmethod
    def of(cls, tensors: list[Tensor]) -> "Groups":
        """The inverse of `tensors`."""
        place, *rest = tensors
        return cls(tuple(Group(*rest[start : start + 4]) for start in range(0, len(rest), 4)), place)


def group_sequences(offsets: Tensor, total: int, rules: AttentionRules, extras: Extras) -> Groups:
    """Groups of checked offsets [sequences + 1], on their device; waits for them on a GPU."""
    lengths = offsets.diff()
    order = torch.argsort(lengths, descending=True, stable=True)
    ordered = lengths[order].tolist()
    place = torch.empty(total, dtype=torch.int64, device=offsets.device)
    groups: list[Group] = []
    start = cells = held = 0
    while start < len(ordered) and ordered[start]:
        end = _end_of_group(ordered, start)
        members, length = order[start:end], ordered[start]
        column = torch.arange(length, device=offsets.device)
        real = column < lengths[members][:, None]
        slot = offsets[:-1][members][:, None].long() + torch.where(real, column, 0)
        place[slot[real]] = cells + real.flatten().nonzero().squeeze(1)
        history = slot.new_empty(0)
        if extras.num_candidates is not None:
            history = (lengths[members] - extras.num_candidates[members]).long()
        group = Group(slot, (~real).flatten().nonzero().squeeze(1), history, slot.new_empty(0))
        pairs = length**2 * (len(members) if extras.num_buckets[1] or len(history) else 1)
        if held + pairs <= HELD_PAIRS:
            held += pairs
            numbers = group.pairs(0, length, rules.window, rules.prefix, extras.num_buckets, extras.time)
            group = Group(slot, group.padding, history, numbers)
        groups.append(group)
        start, cells = end, cells + slot.numel()
    return Groups(tuple(groups), place)


def _end_of_group(ordered: list[int], start: int) -> int:
    """One behind the last of the descending lengths that may join the sequence at `start`."""
    longest = ordered[start]
    most = min(start + max(GROUP_PAIRS // longest**2, 1), len(ordered))
    end = start + 1
    while end < most and ordered[end] * LENGTH_RATIO >= longest:
        end += 1
    return end
