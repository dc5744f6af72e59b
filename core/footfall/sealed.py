"""Sealed: what data sets, checkpoints and versions have in common, finished folders of one lineage."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from footfall.history import HistoryRules
from footfall.vocabulary import Vocabulary


@dataclass(frozen=True)
class Sealed:
    """A folder whose manifest was read (see footfall.folder), with the vocabularies items/ and actions/."""

    folder: Path
    manifest: dict[str, Any]

    @cached_property
    def items(self) -> Vocabulary:
        return Vocabulary.load(self.folder / "items")

    @cached_property
    def actions(self) -> Vocabulary:
        return Vocabulary.load(self.folder / "actions")

    @property
    def rules(self) -> HistoryRules:
        return HistoryRules(repeat_ms=self.manifest["repeat_ms"])

    @property
    def lineage(self) -> str:
        """Identity shared by all whose item and action vocabularies extend one another."""
        return str(self.manifest["lineage"])
