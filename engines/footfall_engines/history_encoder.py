"""HistoryEncoder: the state after each history, of returning users by way of the cache."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footfall.contract import ANEW_USER
from footfall.history import ModelInput
from footfall_engines.batch import NOBODY
from footfall_engines.captured_passes import CapturedPasses, Pass
from footfall_engines.storage import storage_for
from footfall_engines.user_cache import UserCache
from footfall_kernels.implementations import ImplementationName
from footfall_models.graph import RankerGraph
from footfall_models.inputs import PackedInputs
from footfall_models.layouts.caching import KeepingLayout, Kept, ReturningLayout
from footfall_models.layouts.layout import Layout


@dataclass(frozen=True)
class Visit:
    """One row of a batch: its user and events int32 [6, events]; `cached` of them are in `sequence` of the cache."""

    row: int
    user: bytes
    events: NDArray[np.int32]
    cached: int = 0
    sequence: int | None = None

    @property
    def new(self) -> int:
        return self.events.shape[1] - self.cached


class HistoryEncoder:
    """Encodes packed histories by a graph's model, in its precision, on the device it lies on."""

    def __init__(
        self, graph: RankerGraph, device: torch.device, implementation: ImplementationName, cache_bytes: int
    ) -> None:
        self._graph, self._device, self._implementation = graph, device, implementation
        self.cache = UserCache(storage_for(graph.model, device, implementation, cache_bytes))
        self.cached_events = 0
        # The reference and a scan decide on the host, which no graph can hold.
        scans = graph.model.blocks.keeps == "state"
        captured = device.type == "cuda" and implementation == "triton" and not scans
        self._whole = CapturedPasses(self._pass_over) if captured else self._pass_over
        config = graph.model.config
        self._num_appended = config.max_tokens - config.max_length

    def states(self, history: ModelInput, users: Sequence[bytes]) -> Tensor:
        """After each history's last event [users, width]; zeros for an empty one. users: NOBODY where unknown."""
        lengths = np.diff(history.offsets)
        states = self._graph.model.item_table().new_zeros(len(lengths), self._graph.model.config.width)
        columns = np.stack(history.columns)
        visits = [
            Visit(row, user, columns[:, start : start + length])
            for row, (user, start, length) in enumerate(
                zip(users, history.offsets[:-1].tolist(), lengths.tolist(), strict=True)
            )
            if length
        ]
        whole, returning = self._sort(visits)
        with self.cache.writing(_reserved((*whole, *returning))):
            for group, run in ((returning, self._continue), (whole, self._begin)):
                if group:
                    rows = torch.tensor([visit.row for visit in group], device=self._device)
                    states[rows] = run(group)
        for visit in (*whole, *returning):
            if visit.sequence is not None:
                self.cache.store(visit.user, visit.sequence, visit.events[:, :-1])
        return states

    def _sort(self, visits: list[Visit]) -> tuple[list[Visit], list[Visit]]:
        """Visits to encode whole and to continue, with room in the cache for what it may keep, where there is.

        That is all but the last event: what follows it, and when, only the next visit knows.
        """
        batch = {visit.user for visit in visits}
        whole: list[Visit] = []
        returning: list[Visit] = []
        seen = {NOBODY, ANEW_USER}
        for visit in visits:
            if visit.user in seen:  # twice in one batch: the first is kept
                whole.append(visit)
                continue
            seen.add(visit.user)
            if visit.events.shape[1] == 1:
                self.cache.drop(visit.user)
                whole.append(visit)
                continue
            entry = self.cache.find(visit.user, visit.events)
            cached = 0 if entry is None else entry.events.shape[1]
            # A pass over the past costs less than decoding more events than it has.
            if entry is None or visit.events.shape[1] > 2 * cached:
                self.cache.drop(visit.user)
                cached = 0
            sequence = self.cache.reserve(visit.user, visit.events.shape[1] - 1 - cached, keep=batch)
            if sequence is None:
                self.cache.drop(visit.user)
                whole.append(visit)
            else:
                group = returning if cached else whole
                group.append(replace(visit, cached=cached, sequence=sequence))
                self.cached_events += cached
        return whole, returning

    def _begin(self, visits: list[Visit]) -> Tensor:
        """Encode whole histories."""
        inputs = self._inputs(visits)
        hidden, kept = self._whole(inputs)
        return self._finish(visits, inputs, hidden, kept)

    def _pass_over(self, inputs: PackedInputs) -> Pass:
        layout = KeepingLayout(inputs, self._implementation, self._graph.model.config.max_tokens)
        return self._run(layout, inputs), layout.kept

    def _continue(self, visits: list[Visit]) -> Tensor:
        """Encode only the new events."""
        inputs = self._inputs(visits)
        sequences = list(_reserved(visits).values())
        most = max(visit.new for visit in visits) + self._num_appended
        layout = ReturningLayout(inputs, self._implementation, self.cache.storage.layers, sequences, most)
        return self._finish(visits, inputs, self._run(layout, inputs), layout.kept)

    def _run(self, layout: Layout, inputs: PackedInputs) -> Tensor:
        events = (inputs.item, inputs.action, inputs.gap, inputs.wait)
        return self._graph.model.encode_in(layout, *events)

    def _finish(self, visits: list[Visit], inputs: PackedInputs, hidden: Tensor, kept: Kept) -> Tensor:
        """Cache what is to be kept; the states [visits, width] that tell what comes next."""
        tokens = np.array([visit.new for visit in visits]) + self._num_appended
        is_kept = np.repeat([visit.sequence is not None for visit in visits], tokens)
        for back in range(1, 2 + self._num_appended):  # the last events, and what is appended
            is_kept[np.cumsum(tokens) - back] = False
        if is_kept.any():
            rows = {
                visit.sequence: visit.new - 1
                for visit in visits
                if visit.sequence is not None and visit.new > 1
            }
            events = torch.from_numpy(np.flatnonzero(is_kept)).to(self._device)
            self.cache.storage.append(rows, events, kept, inputs.time[:, 0])
        return hidden[: len(visits)]  # behind them the users that pad a captured pass

    def _inputs(self, visits: list[Visit]) -> PackedInputs:
        """The events of each visit that are not cached, and what the model appends."""
        columns = np.concatenate([visit.events[:, visit.cached :] for visit in visits], axis=1)
        new = [visit.new for visit in visits]
        inputs = ModelInput.of(columns, np.cumsum([0, *new]))
        past = np.repeat([visit.cached for visit in visits], new)
        packed = PackedInputs.of(inputs, torch.device("cpu"), past)
        # On the host, where these small steps need no launches.
        item, action, gap, wait = self._graph.known_events(
            packed.item, packed.action, packed.gap, packed.wait
        )
        packed = replace(packed, item=item, action=action, gap=gap, wait=wait).to(self._device)
        return self._graph.model.asked(packed)


def _reserved(visits: Sequence[Visit]) -> dict[bytes, int]:
    """The sequence of each user that has one, in the order of the visits."""
    return {visit.user: visit.sequence for visit in visits if visit.sequence is not None}
