"""What cleaning drops: the reasons, and the count and first examples of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

NUM_EXAMPLES = 3
BAD_ROW = "unreadable row"
BAD_TIME = "unreadable time"
MISSING = "missing field"
LONG_ID = "id too long"
CANCELLATION = "cancellation"
DUPLICATE = "duplicate"
REPEAT = "repeat"
ROBOT = "robot"
K_CORE = "k-core"
REASONS = (BAD_ROW, BAD_TIME, MISSING, LONG_ID, CANCELLATION, DUPLICATE, REPEAT, ROBOT, K_CORE)


@dataclass
class Dropped:
    """Counts of dropped rows by reason, with the first few of each; the one mutable part of a report."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    examples: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {reason: [] for reason in REASONS}
    )

    missing: dict[str, int] = field(default_factory=dict)
    """Of the rows with a missing field: how often each role's was."""

    def wanted(self, reason: str) -> int:
        """How many more examples of `reason` are welcome."""
        return NUM_EXAMPLES - len(self.examples[reason])

    def add(self, reason: str, count: int, examples: Sequence[dict[str, Any]]) -> None:
        self.counts[reason] += count
        self.examples[reason] += examples[: self.wanted(reason)]

    def as_dict(self) -> dict[str, Any]:
        return {
            reason: {"rows": self.counts[reason], "examples": self.examples[reason]} for reason in REASONS
        }
