"""Learnt: which events a checkpoint has learnt from, and so what it may be asked about and go on with."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from footfall.contract import UNKNOWN_TIME
from footfall.errors import InputError
from footfall_data.dataset import Dataset, SplitName
from footfall_data.splits import in_period, training_histories
from footfall_training.evaluation.ranking import Part


@dataclass(frozen=True)
class Learnt:
    """Of the data set: fingerprint and cleaning (see Dataset). Of the events in the `split`, and of the checkpoint
    that training began with, epoch ms: `fitted_until` is the time of the last one that weights were fitted to,
    `learnt_until` of the last one that anything was chosen or calibrated by.
    """

    split: SplitName
    fingerprint: str
    cleaning: dict[str, Any]
    fitted_until: int
    learnt_until: int

    @classmethod
    def of(cls, dataset: Dataset, split: SplitName, source: "Learnt | None" = None) -> "Learnt":
        fitted = int(training_histories(dataset, split).time.max(initial=UNKNOWN_TIME))
        learnt = max(fitted, _last_validation(dataset, split))
        if source is not None:
            fitted, learnt = max(fitted, source.fitted_until), max(learnt, source.learnt_until)
        return cls(split, dataset.fingerprint, dataset.cleaning, fitted, learnt)

    def check_asked(self, name: str, dataset: Dataset, split: SplitName, part: Part) -> None:
        """Raises InputError where the checkpoint called `name` may know the events that it is asked to predict.

        Honest are the data set it was trained on in the split it was trained on, and events later than all it has
        learnt from.
        """
        if self.fingerprint == dataset.fingerprint and self.split == split:
            return
        if self.fingerprint == dataset.fingerprint:
            raise InputError(
                f"{name} was trained on the {self.split} split: of what the {split} split asks about it has learnt"
                f" some; evaluate with --split {self.split}"
            )
        self._check_cleaning(name, dataset)
        if (first := _first_asked(dataset, split, (part,))) <= self.learnt_until:
            raise InputError(
                f"{name} was trained on other events than {dataset.folder} holds, up to {_iso(self.learnt_until)},"
                f" and the {part} events of the {split} split begin at {_iso(first)}: evaluate on the data set it was"
                " trained on, or on later events (--split time)"
            )

    def check_start(self, name: str, dataset: Dataset, split: SplitName) -> None:
        """Raises InputError where the checkpoint called `name` may be fitted to events that `split` holds out.

        A data set of the same lineage and cleaning holds what its elder held, so by leave-one-out each user's last
        two events are the same or newer ones.
        """
        if (first := _first_asked(dataset, split, ("validation", "test"))) > self.fitted_until:
            return
        if self.split == split == "leave_one_out":
            self._check_cleaning(name, dataset)
            return
        raise InputError(
            f"{name} was fitted to events of the {self.split} split up to {_iso(self.fitted_until)}, and the {split}"
            f" split of {dataset.folder} holds events out from {_iso(first)} on, so that it would be validated on"
            f" what it knows; train with --split {self.split}, or on later events"
        )

    def _check_cleaning(self, name: str, dataset: Dataset) -> None:
        for rule, value in self.cleaning.items():
            if dataset.cleaning.get(rule) != value:
                raise InputError(
                    f"{name} was trained on events cleaned with {rule} {value}, {dataset.folder} was prepared with"
                    f" {dataset.cleaning.get(rule)}"
                )


def _last_validation(dataset: Dataset, split: SplitName) -> int:
    """Epoch ms of the last event of the validation, or UNKNOWN_TIME where there is none."""
    histories = dataset.histories
    if split == "time":
        time = histories.time[in_period(histories, "validation")]
    else:
        at = dataset.split(split).validation_at
        time = histories.time[(histories.offsets[:-1] + at)[at > 0]]
    return int(time.max(initial=UNKNOWN_TIME))


def _first_asked(dataset: Dataset, split: SplitName, parts: tuple[Part, ...]) -> int:
    """Epoch ms of the first event that the parts ask to predict."""
    histories, found = dataset.histories, dataset.split(split)
    first = 2**63 - 1
    for part in parts:
        at = getattr(found, f"{part}_at")
        first = int(histories.time[(histories.offsets[:-1] + at)[at > 0]].min(initial=first))
    return first


def _iso(epoch_ms: int) -> str:
    return f"{np.datetime64(epoch_ms, 'ms')}"
