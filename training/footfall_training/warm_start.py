"""Warm start: a new model begins with the weights of an older checkpoint of its lineage."""

from dataclasses import fields

import torch
from torch import Tensor

from footfall.errors import InputError
from footfall_data.dataset import Dataset, SplitName
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel
from footfall_training.checkpoint import Checkpoint

FREE = ("num_items", "num_actions", "dropout")
"""What may differ: rows are appended for new items and actions, and dropout has no weights."""


def check_source(source: Checkpoint, dataset: Dataset, config: ModelConfig, split: SplitName) -> None:
    """Raises InputError where a model of `config` cannot, or for `split` must not, begin with `source`."""
    if source.lineage != dataset.lineage:
        raise InputError(
            f"{source.folder} is of another lineage than {dataset.folder}, so that its indices mean other items;"
            " prepare the data set with --extend"
        )
    for kind, known, needed in (
        ("items", source.items, dataset.items),
        ("actions", source.actions, dataset.actions),
    ):
        if not known.is_prefix_of(needed):
            raise InputError(
                f"the {len(known)} {kind} of {source.folder} are not the first {kind} of {dataset.folder}, which has"
                f" {len(needed)}: train on a data set that extends the checkpoint's"
            )
    for field in fields(config):
        old, new = getattr(source.config, field.name), getattr(config, field.name)
        if field.name not in FREE and old != new:
            raise InputError(
                f"{source.folder} has {field.name} {old}, not {new}: give the same, as its weights have that shape"
            )
    source.learnt.check_start(str(source.folder), dataset, split)


def start_from(model: SequenceModel, source: Checkpoint) -> Tensor:
    """Copy the weights of `source`; rows of items that it does not list, and of actions that it does not know, stay
    as they are. Returns the items whose rows are copied: bool [num_items + 1].

    Priors and calibrations are not copied: they are set after training.
    """
    begun = source.load_model()
    old = dict(begun.named_parameters())
    copied = torch.zeros_like(model.item_listed)
    copied[: len(begun.item_listed)] = begun.item_listed
    with torch.no_grad():
        fresh = model.item_embedding.weight[~copied]
        for name, parameter in model.named_parameters():
            parameter[: len(old[name])] = old[name]
        model.item_embedding.weight[~copied] = fresh
    return copied
