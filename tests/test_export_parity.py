"""Parity: what counts as the same list, and what no figure may hide."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from footfall.contract import HEADS, UNKNOWN_INDEX
from footfall.errors import InputError
from footfall.history import Asked, Histories
from footfall_engines.batch import Batch, Scores
from footfall_engines.repository import Repository
from footfall_engines.torch_engine import TorchEngine
from footfall_engines.version import Version
from footfall_export.parity import measure, parity_batches
from footfall_training.checkpoint import Checkpoint


class Answers:
    """An engine that gives the same answer whatever it is asked."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores

    cached_events = 0

    def score(self, batch: Batch) -> Scores:
        users = len(batch.history.offsets) - 1
        return Scores(
            {name: np.repeat(output, users, axis=0) for name, output in self.scores.outputs.items()}
        )


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return Checkpoint.open(tiny_checkpoint)


@pytest.fixture(scope="module")
def version(tiny_repository: Path) -> Version:
    return Repository(tiny_repository).version(1)


def listing(items: list[int], scores: list[float]) -> Answers:
    outputs = (np.array([items], np.int32), np.array([scores], np.float32))
    said = (np.ones((1, 2), np.float32) for _ in HEADS)
    return Answers(Scores.of(tuple(HEADS), (*outputs, *said, np.ones((1, 4), np.float32))))


FALLING = [float(score) for score in range(30, 10, -1)]
ITEMS = list(range(1, 21))


@pytest.mark.parametrize(
    ("items", "scores", "agreement"),
    [
        (ITEMS, FALLING, 1.0),
        ([*ITEMS[:-1], 99], FALLING, 1.0),  # ties with the expected last
        ([99, *ITEMS[1:]], FALLING, 0.95),
        (ITEMS[::-1], FALLING, 1.0),
    ],
)
def test_only_a_tie_with_the_last_of_the_list_may_stand_for_another_item(
    checkpoint: Checkpoint, version: Version, items: list[int], scores: list[float], agreement: float
) -> None:
    report = measure(listing(items, scores), listing(ITEMS, FALLING), checkpoint.samples, version)
    assert report.top20_agreement == pytest.approx(agreement)


def test_a_shorter_list_is_infinitely_far(checkpoint: Checkpoint, version: Version) -> None:
    short = listing([*ITEMS[:-1], 0], [*FALLING[:-1], -np.inf])
    report = measure(short, listing(ITEMS, FALLING), checkpoint.samples, version)
    assert report.differences["item_score"] == np.inf
    with pytest.raises(InputError, match="differs from torch by up to inf"):
        report.check()


def test_weights_that_are_not_numbers_fail_the_check(checkpoint: Checkpoint, version: Version) -> None:
    model = checkpoint.load_model()
    with torch.no_grad():
        model.final_norm.weight[3] = torch.nan
    broken = TorchEngine(model, 100, "fp32", "cpu")
    reference = TorchEngine(checkpoint.load_model(), 100, "fp32", "cpu")
    with pytest.raises(InputError, match="the fp32 onnxruntime engine differs from torch"):
        measure(broken, reference, checkpoint.samples, version).check()


def test_every_output_is_held_to_the_threshold(checkpoint: Checkpoint, version: Version) -> None:
    reference = TorchEngine(checkpoint.load_model(), 100, "fp32", "cpu")
    report = measure(reference, reference, checkpoint.samples, version)
    report.check()
    assert list(report.differences) == ["item_score", "action_probability", "user_vector"]
    further = [replace(report, differences={**report.differences, name: 0.01}) for name in report.differences]
    for far in (*further, replace(report, top20_agreement=0.98)):
        with pytest.raises(InputError, match=r"by up to .* and shares"):
            far.check()


def test_batches_hold_empty_histories_candidates_and_unknown_ones(checkpoint: Checkpoint) -> None:
    batches = parity_batches(checkpoint.samples, checkpoint.config.max_length)
    lengths = np.concatenate([np.diff(batch.history.offsets) for batch in batches])
    candidates = np.concatenate([np.diff(batch.candidate.offsets) for batch in batches])
    assert {1, 7, 64} == {len(batch.history.offsets) - 1 for batch in batches}
    assert (lengths == 0).any()
    assert lengths.max() == checkpoint.config.max_length
    assert set(candidates) == {0, 1, 32}
    assert any(UNKNOWN_INDEX in batch.candidate.values for batch in batches)


def test_a_checkpoint_without_samples_is_measured_on_the_empty_history(
    checkpoint: Checkpoint, version: Version
) -> None:
    none = Histories(
        np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(1, np.int64)
    )
    reference = TorchEngine(checkpoint.load_model(), 100, "fp32", "cpu")
    assert measure(reference, reference, Asked(none, np.zeros(0, np.int64)), version).histories == 1
