"""Evaluation: a checkpoint beside the baselines, by the protocol of footfall_training.evaluation.ranking."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from footfall.errors import InputError
from footfall.metrics import probability_metrics, ranking_metrics
from footfall_data.dataset import Dataset
from footfall_data.splits import training_histories
from footfall_models.device import find_device, implementation_on
from footfall_training.checkpoint import Checkpoint
from footfall_training.evaluation.baselines import BASELINES
from footfall_training.evaluation.options import EvaluateOptions
from footfall_training.evaluation.ranking import Scorer, Targets, rank_targets
from footfall_training.evaluation.scorer import ModelScorer

AS_TRAINED = EvaluateOptions()
"""The test events of the split the checkpoint was trained on, on the CPU."""


def evaluate(
    checkpoint_folder: Path,
    dataset: Dataset,
    options: EvaluateOptions = AS_TRAINED,
) -> dict[str, Any]:
    """{"split": str, "users": int, "ranking": {model or baseline: metrics}, "actions": {action: metrics}}.

    Items and actions that are newer than the checkpoint it does not read and cannot find; where a history has no
    others it gives the list for an empty one, as the server does. Raises InputError where the checkpoint may have
    learnt from what it is asked to predict, NotReadyError where the device is not there.
    """
    torch_device = find_device(options.device)
    checkpoint = Checkpoint.open(checkpoint_folder)
    split = options.split or checkpoint.learnt.split
    for kind, known, needed in (
        ("items", checkpoint.items, dataset.items),
        ("actions", checkpoint.actions, dataset.actions),
    ):
        if not known.is_prefix_of(needed):
            raise InputError(
                f"{checkpoint_folder} knows {len(known)} {kind}, {dataset.folder} has {len(needed)} others or in"
                " another order: evaluate on the data set it was trained on, or on one that extends it"
            )
    checkpoint.learnt.check_asked(str(checkpoint_folder), dataset, split, options.part)
    targets = Targets.of(dataset, split, options.part)
    num_items = len(dataset.items)
    training = training_histories(dataset, split)
    model = ModelScorer(
        checkpoint.load_model().to(torch_device),
        torch_device,
        implementation_on(torch_device, options.implementation),
    )
    scorers: dict[str, Scorer] = {
        **{name: baseline(training, num_items) for name, baseline in BASELINES.items()},
        "model": model,
    }
    ranking = {
        name: ranking_metrics(rank_targets(scorer, targets, num_items, keep_seen=options.keep_seen))
        for name, scorer in scorers.items()
    }
    return {
        "split": split,
        "users": len(targets),
        "ranking": ranking,
        "actions": _action_metrics(model, targets, dataset),
    }


def _action_metrics(
    model: ModelScorer, targets: Targets, dataset: Dataset
) -> dict[str, dict[str, float | None]]:
    """None is what a metric has no value for: NaN is not JSON."""
    probability = model.action_probability(targets.histories, targets.now)
    metrics: dict[str, dict[str, float | None]] = {}
    for index, name in enumerate(dataset.actions, start=1):
        happened = targets.next_action == index
        known_action = index <= probability.shape[1]
        said = probability[:, index - 1] if known_action else np.zeros(len(targets))
        scores = probability_metrics(said, happened)
        known = {score: None if math.isnan(value) else value for score, value in scores.items()}
        metrics[name.decode()] = {"share": float(happened.mean()), **known}
    return metrics
