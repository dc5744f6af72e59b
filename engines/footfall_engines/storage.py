"""Storage: what a UserCache holds of each sequence, as its encoder says: keys and values, one state, nothing."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from footfall_kernels.decode_attention.decode_attention import append
from footfall_kernels.decode_attention.paged_cache import PagedCache
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import ModelConfig
from footfall_models.layouts.caching import Kept, Layers
from footfall_models.model import SequenceModel

PAGE = 64


class Storage(Protocol):
    """`layers` hold the same sequences; a sequence takes pages, of which there are as many as sequences."""

    num_pages: int

    @property
    def layers(self) -> Layers: ...

    @property
    def num_free(self) -> int:
        """Pages that no sequence has."""

    def pages(self, events: int) -> int:
        """That a sequence of so many events takes."""

    def allocate(self, sequence: int, rows: int) -> None:
        """Make room for `rows` more events."""

    def append(self, rows: Mapping[int, int], events: Tensor, kept: Kept, time: Tensor) -> None:
        """Write what is kept of `events` int64 [events], so many for each sequence in turn.

        kept: of every layer, of a pass's packed events, whose seconds are `time` int32.
        """

    def release(self, sequence: int) -> None:
        """Give the sequence's pages back."""


class PagedStorage:
    """Keys, values and times, PAGE events a page."""

    def __init__(
        self,
        config: ModelConfig,
        dtype: torch.dtype,
        device: torch.device,
        implementation: ImplementationName,
        num_bytes: int,
    ) -> None:
        self._implementation = implementation
        self.num_pages = num_bytes // (config.num_layers * page_bytes(config, dtype))
        self.layers = [
            PagedCache.empty(
                sequences=self.num_pages,
                num_pages=self.num_pages,
                max_pages=-(-config.max_length // PAGE),
                heads=config.num_heads,
                head_dim=config.width // config.num_heads,
                dtype=dtype,
                device=device,
                page=PAGE,
            )
            for _ in range(config.num_layers)
        ]

    @property
    def num_free(self) -> int:
        return len(self.layers[0].free)

    def pages(self, events: int) -> int:
        return -(-events // PAGE)

    def allocate(self, sequence: int, rows: int) -> None:
        for layer in self.layers:
            layer.allocate(sequence, rows)

    def append(self, rows: Mapping[int, int], events: Tensor, kept: Kept, time: Tensor) -> None:
        bounds = np.cumsum([0, *rows.values()]).tolist()
        for layer, (key, value) in zip(self.layers, kept, strict=True):
            key, value, seconds = (packed.index_select(0, events) for packed in (key, value, time))
            append(
                layer,
                key,
                value,
                seconds,
                implementation=self._implementation,
                sequences=list(rows),
                offsets=bounds,
            )

    def release(self, sequence: int) -> None:
        for layer in self.layers:
            layer.release(sequence)


class StateStorage:
    """One state [width] a layer, after the last event: a page is a sequence's whole past, however long."""

    def __init__(
        self, num_layers: int, width: int, dtype: torch.dtype, device: torch.device, num_bytes: int
    ) -> None:
        self.num_pages = num_bytes // (num_layers * width * dtype.itemsize)
        self.layers = [
            torch.zeros(self.num_pages, width, dtype=dtype, device=device) for _ in range(num_layers)
        ]
        self._used: set[int] = set()

    @property
    def num_free(self) -> int:
        return self.num_pages - len(self._used)

    def pages(self, events: int) -> int:
        return int(events > 0)

    def allocate(self, sequence: int, rows: int) -> None:
        self._used.add(sequence)

    def append(self, rows: Mapping[int, int], events: Tensor, kept: Kept, time: Tensor) -> None:
        ends = np.cumsum(list(rows.values())) - 1
        some = [(sequence, end) for (sequence, count), end in zip(rows.items(), ends, strict=True) if count]
        if not some:
            return
        sequences, last = torch.tensor(some, device=events.device).T
        last = events[last]
        for layer, (states,) in zip(self.layers, kept, strict=True):
            layer[sequences] = states[last]

    def release(self, sequence: int) -> None:
        self._used.discard(sequence)


def storage_for(
    model: SequenceModel, device: torch.device, implementation: ImplementationName, num_bytes: int
) -> Storage:
    """What the model says that a cache may keep, of `num_bytes` at most."""
    config, dtype, keeps = model.config, model.item_table().dtype, model.keeps
    if keeps == "keys and values":
        return PagedStorage(config, dtype, device, implementation, num_bytes)
    num_bytes = num_bytes if keeps == "state" else 0
    return StateStorage(config.num_layers, model.blocks.state_width, dtype, device, num_bytes)


def page_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """Keys, values and times of one page of one layer."""
    return PAGE * (2 * config.width * dtype.itemsize + 4)
