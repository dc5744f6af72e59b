"""Parity: how far an exported engine is from torch in fp32, on real histories."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from footfall.errors import InputError
from footfall.history import Histories, model_input, slices
from footfall_export.engine import Batch, Engine, IndexLists, Scores

TOP = 20
BATCH_SIZES = (1, 7, 64)


@dataclass(frozen=True)
class Threshold:
    """Largest difference of any score or probability, and least share of the top 20 in common."""

    difference: float
    agreement: float


# Measured on amazon-beauty-2014: fp32 2e-6, fp16 2e-3, bf16 2e-2 (scores of order 10, mantissas of 24, 11 and
# 8 bits); about ten times that is allowed, and in fp32 room for other orders of summation.
THRESHOLDS = {
    "fp32": Threshold(1e-3, 0.99),
    "fp16": Threshold(2e-2, 0.98),
    "bf16": Threshold(2e-1, 0.9),
}


@dataclass(frozen=True)
class Parity:
    """parity.json. Differences are None where nothing was measured; `reason` says why."""

    engine: str
    precision: str
    measured: bool
    reason: str
    histories: int
    threshold: Threshold
    max_score_difference: float | None = None
    max_probability_difference: float | None = None
    top20_agreement: float | None = None

    def check(self) -> None:
        """Raises InputError where a measured figure is beyond its threshold."""
        if self.max_score_difference is None or self.max_probability_difference is None:
            return
        assert self.top20_agreement is not None
        worst = max(self.max_score_difference, self.max_probability_difference)
        if not worst <= self.threshold.difference or self.top20_agreement < self.threshold.agreement:
            raise InputError(
                f"the {self.precision} {self.engine} engine differs from torch by up to {worst:.3g} and shares"
                f" {self.top20_agreement:.1%} of the top {TOP}; at most {self.threshold.difference:g} and at least"
                f" {self.threshold.agreement:.0%} are allowed"
            )

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def not_measured(engine: str, precision: str, reason: str) -> Parity:
    return Parity(engine, precision, False, f"not measured: {reason}", 0, THRESHOLDS[precision])


def measure(
    engine: Engine, reference: Engine, samples: Histories, max_length: int, name: str, precision: str
) -> Parity:
    """Compare both engines on `samples` in batches of several sizes, also with candidates and empty histories."""
    scores, probabilities, agreements = [0.0], [0.0], []
    batches = parity_batches(samples, max_length)
    for batch in batches:
        got, expected = engine.score(batch), reference.score(batch)
        scores.append(_difference(got.item_score, expected.item_score))
        probabilities.append(_difference(got.action_probability, expected.action_probability))
        agreements += _agreements(got, expected)
    return Parity(
        name,
        precision,
        True,
        "compared with torch fp32",
        sum(len(batch.history.offsets) - 1 for batch in batches),
        THRESHOLDS[precision],
        max(scores),
        max(probabilities),
        float(np.mean(agreements)),
    )


def parity_batches(samples: Histories, max_length: int) -> list[Batch]:
    """The samples in turn at every batch size; each batch's first user has no history, every third candidates."""
    batches = []
    for size in BATCH_SIZES:
        for start in range(0, samples.num_users, size):
            end = min(start + size, samples.num_users)
            first, last = samples.offsets[start:end].copy(), samples.offsets[start + 1 : end + 1]
            if size > 1:
                first[0] = last[0]
            histories = slices(samples, first, last)
            rows = [
                histories.item[a:b] for a, b in zip(histories.offsets, histories.offsets[1:], strict=False)
            ]
            candidates = [samples.item[: 32 * (row % 3 == 2)] for row in range(len(rows))]
            inputs = model_input(histories, max_length)
            batches.append(Batch(inputs, IndexLists.of(rows), IndexLists.of(candidates)))
    return batches


def _difference(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference; infinite where one list is shorter than the other."""
    if not np.array_equal(np.isneginf(got), np.isneginf(expected)):
        return float("inf")
    finite = ~np.isneginf(expected)
    return float(np.abs(got[finite] - expected[finite]).max(initial=0.0))


def _agreements(got: Scores, expected: Scores) -> list[float]:
    """Of every user, the share of the expected top 20 that was returned."""
    pairs = zip(got.item_index[:, :TOP], expected.item_index[:, :TOP], strict=True)
    return [float(np.isin(mine, theirs).mean()) for mine, theirs in pairs]
