"""Parity: how far an exported engine is from torch in fp32, on real histories."""

from dataclasses import asdict, dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from footfall.contract import ITEM_INDEX, UNKNOWN_INDEX, UNKNOWN_TIME
from footfall.errors import InputError
from footfall.history import Asked, model_input, slices
from footfall_engines.batch import Batch, IndexLists, Scores
from footfall_engines.engine import Engine
from footfall_engines.version import Version

TOP = 20
BATCH_SIZES = (1, 7, 64)
MAX_BATCHES = 16
"""Of each size, at most."""
NUM_CANDIDATES = 32


@dataclass(frozen=True)
class Threshold:
    """Largest difference of any number of an output, and least share of the top 20 in common."""

    difference: float
    agreement: float


# Measured by `export` on a CPU, 385 histories of amazon-beauty-2014 (prepare --preset amazon), scores of 2 to 9; the
# worse of two models (train --width 32 --dropout 0.2 --epochs 4; train --epochs 3, so width 128):
#                     score   vector  top 20
#   fp32 onnxruntime  6.7e-6  3.8e-6  100%
#   fp16 torch        1.2e-2  1.9e-2  99.94%
#   bf16 torch        6.4e-2  1.3e-1  99.64%
# States have length 20, so one rounding of fp16 (2^-11) or bf16 (2^-8) is up to 1e-2 or 8e-2 of it: room for five.
# The share of the top 20 guards what users see. fp32 has room for other orders of summation.
THRESHOLDS = {
    "fp32": Threshold(1e-3, 0.99),
    "fp16": Threshold(5e-2, 0.98),
    "bf16": Threshold(4e-1, 0.9),
}


@dataclass(frozen=True)
class Parity:
    """parity.json. differences: the largest of each output but the list itself, which agrees to a share of its
    top 20; none where nothing was measured, and `reason` says why."""

    engine: str
    precision: str
    measured: bool
    reason: str
    histories: int
    threshold: Threshold
    differences: dict[str, float] = field(default_factory=dict)
    top20_agreement: float | None = None

    def check(self) -> None:
        """Raises InputError where a measured figure is beyond its threshold."""
        measured = list(self.differences.values())
        if self.top20_agreement is None or not measured:
            return
        largest = np.max(measured)  # not Python's max, which may lose a NaN
        if not largest <= self.threshold.difference or not self.top20_agreement >= self.threshold.agreement:
            raise InputError(
                f"the {self.precision} {self.engine} engine differs from torch by up to {largest:.3g} and"
                f" shares {self.top20_agreement:.1%} of the top {TOP}; at most {self.threshold.difference:g} and"
                f" at least {self.threshold.agreement:.0%} are allowed"
            )

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def not_measured(engine: str, precision: str, reason: str) -> Parity:
    return Parity(engine, precision, False, f"not measured: {reason}", 0, THRESHOLDS[precision])


def measure(engine: Engine, reference: Engine, samples: Asked, version: Version) -> Parity:
    """Compare both engines on `samples` in batches of several sizes.

    Also with candidates, empty histories and times that nobody knows.
    """
    batches = parity_batches(samples, version.max_length)
    pairs = [(engine.score(batch), reference.score(batch)) for batch in batches]
    agreements = [share for got, expected in pairs for share in _agreements(got, expected)]
    return Parity(
        engine=version.engine,
        precision=version.precision,
        measured=True,
        reason="compared with torch in fp32",
        histories=sum(len(batch.history.offsets) - 1 for batch in batches),
        threshold=THRESHOLDS[version.precision],
        differences={name: _largest(pairs, name) for name in pairs[0][1].outputs if name != ITEM_INDEX.name},
        top20_agreement=float(np.mean(agreements)),
    )


def parity_batches(asked: Asked, max_length: int) -> list[Batch]:
    """A user without history, then those asked about in turn at every batch size, MAX_BATCHES of each at most.

    In a batch the first has no history, every third has candidates, every fifth is asked about at no known time and
    every seventh has only unknown candidates.
    """
    samples, now, start = asked.histories, asked.now, np.zeros(1, dtype=np.int64)
    batches = [_batch(Asked(slices(samples, start, start), start), samples.item, max_length)]
    for size in BATCH_SIZES:
        for begin in range(0, min(samples.num_users, MAX_BATCHES * size), size):
            users = slice(begin, begin + size)
            first, last = samples.offsets[:-1][users].copy(), samples.offsets[1:][users]
            if size > 1:
                first[0] = last[0]
            some = Asked(slices(samples, first, last), now[users])
            batches.append(_batch(some, samples.item, max_length))
    return batches


def _batch(asked: Asked, pool: NDArray[np.int32], max_length: int) -> Batch:
    """What a user has seen is excluded; candidates are the first of `pool`."""
    histories = asked.histories
    seen = [histories.item[start:end] for start, end in pairwise(histories.offsets)]
    unknown = np.array([UNKNOWN_INDEX], dtype=np.int32)
    candidates = [
        unknown if row % 7 == 6 else pool[: NUM_CANDIDATES * (row % 3 == 2)] for row in range(len(seen))
    ]
    now = np.where(np.arange(len(seen)) % 5 == 4, UNKNOWN_TIME, asked.now)
    inputs = model_input(histories, now, max_length)
    return Batch(inputs, IndexLists.of(seen), IndexLists.of(candidates))


def _largest(pairs: list[tuple[Scores, Scores]], output: str) -> float:
    differences = [_difference(got.outputs[output], expected.outputs[output]) for got, expected in pairs]
    return float(np.max(differences))


def _difference(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference; infinite where one list is shorter than the other."""
    if not np.array_equal(np.isneginf(got), np.isneginf(expected)):
        return float("inf")
    finite = ~np.isneginf(expected)
    return float(np.abs(got[finite] - expected[finite]).max(initial=0.0))


def _agreements(got: Scores, expected: Scores) -> list[float]:
    """Of every user, the share of the expected top 20 that was returned.

    Another item with the very score of the expected last one counts: of a tie, any part is right. (In the list
    for an empty history ties are the rule: most items of a log occur equally seldom.)
    """
    rows = zip(got.item_index[:, :TOP], got.item_score, expected.item_index, expected.item_score, strict=True)
    return [
        float((np.isin(mine, theirs[:TOP]) | (scores[:TOP] == expected_scores[:TOP][-1])).mean())
        for mine, scores, theirs, expected_scores in rows
    ]
