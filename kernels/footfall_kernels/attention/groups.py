"""Groups: the sequences of a batch, a few dense tensors that waste little on padding."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.group import Group
from footfall_kernels.attention.rules import NO_WINDOW, AttentionRules

LENGTH_RATIO = 1.25
"""Longest to shortest sequence of one group."""
RUN_SEQUENCES = 16
"""So many neighbours of one length are a group of their own, which needs no padding and no copies."""
GROUP_PAIRS = 1 << 19
"""Pairs of one group, unless it is one sequence. No limit where torch's fused kernel runs."""
HELD_PAIRS = 1 << 23
"""Pairs whose numbers a batch's groups hold for all layers, 64 MiB; the rest are numbered anew in every layer."""


@dataclass(frozen=True)
class Groups:
    """All sequences but the empty."""

    groups: tuple[Group, ...]

    @property
    def tensors(self) -> list[Tensor]:
        return [tensor for group in self.groups for tensor in vars(group).values()]

    @classmethod
    def of(cls, tensors: list[Tensor]) -> "Groups":
        """The inverse of `tensors`."""
        return cls(tuple(Group(*tensors[start : start + 5]) for start in range(0, len(tensors), 5)))

    @property
    def num_cells(self) -> int:
        return sum(group.slot.shape[0] * group.slot.shape[1] for group in self.groups)


def is_plain(rules: AttentionRules, extras: Extras) -> bool:
    """Whether this is what torch's fused kernel computes: softmax of all of the past, without bias."""
    plain = extras.num_candidates is None and not any(extras.num_buckets)
    return plain and rules.kind == "softmax" and rules.window == NO_WINDOW


def group_sequences(offsets: Tensor, rules: AttentionRules, extras: Extras) -> Groups:
    """Groups of checked offsets [sequences + 1], on their device; waits for them on a GPU."""
    lengths = offsets.diff()
    known = lengths.tolist()
    plain = is_plain(rules, extras)
    groups: list[Group] = []
    held = 0
    for members in _partition(known, sys.maxsize if plain else GROUP_PAIRS):
        length = known[members[0]]
        group = _group(offsets, lengths, members, known, extras)
        pairs = length**2 * (len(members) if extras.num_buckets[1] or len(group.history) else 1)
        if held + pairs <= HELD_PAIRS and not plain:
            held += pairs
            numbers = group.pairs(0, length, rules, extras.num_buckets, extras.time)
            group = Group(group.slot, group.cell, group.padding, group.history, numbers)
        groups.append(group)
    return Groups(tuple(groups))


def _group(offsets: Tensor, lengths: Tensor, members: list[int], known: list[int], extras: Extras) -> Group:
    """The group of these sequences, the longest first, without the numbers of its pairs."""
    number = torch.tensor(members, device=offsets.device)
    column = torch.arange(known[members[0]], device=offsets.device)
    real = column < lengths[number][:, None]
    slot = offsets[number][:, None].long() + torch.where(real, column, 0)
    # Only on a CPU, where a run's first row can be read without waiting.
    run = offsets.device.type == "cpu" and _is_run(members, known)
    none = slot.new_empty(0)
    cell, padding = (none, none) if run else (_where(real), _where(~real))
    history = none
    if extras.num_candidates is not None:
        history = (lengths[number] - extras.num_candidates[number]).long()
    return Group(slot, cell, padding, history, none)


def _where(cells: Tensor) -> Tensor:
    return cells.flatten().nonzero().squeeze(1)


def _is_run(members: list[int], known: list[int]) -> bool:
    """Whether the sequences lie in the packed rows one behind the other, all of one length."""
    first, length = members[0], known[members[0]]
    return all(member == first + place and known[member] == length for place, member in enumerate(members))


def _partition(known: list[int], most_pairs: int) -> Iterator[list[int]]:
    """Numbers of the sequences of each group, the longest first."""
    rest: list[int] = []
    for length, neighbours in groupby(range(len(known)), known.__getitem__):
        run = list(neighbours)
        if length and len(run) >= RUN_SEQUENCES:
            yield from _split(run, known, most_pairs)
        elif length:
            rest += run
    yield from _split(sorted(rest, key=lambda sequence: -known[sequence]), known, most_pairs)


def _split(ordered: list[int], known: list[int], most_pairs: int) -> Iterator[list[int]]:
    """Groups of sequences that come with the longest first."""
    start = 0
    while start < len(ordered):
        longest = known[ordered[start]]
        most = min(start + max(most_pairs // longest**2, 1), len(ordered))
        end = start + 1
        while end < most and known[ordered[end]] * LENGTH_RATIO >= longest:
            end += 1
        yield ordered[start:end]
        start = end
