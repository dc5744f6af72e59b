"""Version: a sealed folder `<repository>/ranker/<number>` with an engine and all it needs to serve."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from footfall.contract import POSTPROCESS, PREPROCESS, RANKER, RECOMMENDER
from footfall.errors import InputError
from footfall.folder import MANIFEST, read_manifest
from footfall.sealed import Sealed
from footfall.vocabulary import Vocabulary
from footfall_kernels.implementations import ImplementationName

KIND = "version"
ONNX_FILE = "model.onnx"
PLAN_FILE = "model.plan"
PARITY_FILE = "parity.json"
CANARY_FILE = "canary.json"
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Of an engine's arithmetic, and what torch calls each."""
FIELDS = (
    *("engine", "precision", "backend", "device", "implementation", "cache_mib"),
    *("lineage", "repeat_ms", "max_length", "max_top_k"),
    *("num_items", "actions", "heads", "metrics", "created"),
)
"""Of the manifest, besides a finished folder's own."""


class Version(Sealed):
    """Files: the engine's own, items/, actions/, items.parquet, parity.json, canary.json, manifest.json.

    And model.py, where the ranker is a step of its own, in Python.
    """

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> "Version":
        """Raises InputError where `folder` is not a whole version; `verify` compares every SHA-256."""
        try:
            manifest = read_manifest(folder, KIND, verify=verify)
            for field in FIELDS:
                manifest[field]
        except (KeyError, TypeError, AttributeError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise InputError(f"{folder / MANIFEST} is not the manifest of a version: {reason}") from error
        return cls(folder, manifest)

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @property
    def engine(self) -> str:
        return str(self.manifest["engine"])

    @property
    def backend(self) -> str:
        """The server's backend of the ranker: python, or tensorrt where the server runs the plan itself."""
        return str(self.manifest["backend"])

    @property
    def steps(self) -> tuple[str, ...]:
        """Of contract.COMPOSING_MODELS, in the order in which a request passes them.

        On a CPU one, with an instance a core, as each step more is a hop to another process. The ranker is apart
        where one process is to run it: it has the GPU, which must not wait for work on strings, or it keeps users. A
        plan that the server runs itself knows no ids.
        """
        if self.backend == "tensorrt":
            return PREPROCESS, RANKER, POSTPROCESS
        on_cpu = self.engine == "onnxruntime" or (self.engine == "torch" and self.device == "cpu")
        return (RECOMMENDER,) if on_cpu and not self.cache_bytes else (PREPROCESS, RANKER)

    @property
    def device(self) -> str:
        """Where the torch engine runs: cpu, cuda or cuda:N."""
        return str(self.manifest["device"])

    @property
    def implementation(self) -> ImplementationName:
        """Of the torch engine's kernels."""
        implementation: ImplementationName = self.manifest["implementation"]
        return implementation

    @property
    def cache_bytes(self) -> int:
        """What the torch engine keeps of returning users at most."""
        return int(self.manifest["cache_mib"]) << 20

    @property
    def precision(self) -> str:
        return str(self.manifest["precision"])

    @property
    def max_length(self) -> int:
        return int(self.manifest["max_length"])

    @property
    def heads(self) -> tuple[str, ...]:
        """Of contract.HEADS, in the order of the engine's outputs."""
        return tuple(self.manifest["heads"])

    @property
    def max_top_k(self) -> int:
        return int(self.manifest["max_top_k"])

    @cached_property
    def canary(self) -> dict[str, Any]:
        """Real requests with the answers expected of them: {"tolerance": float, "requests": [...]}."""
        canary: dict[str, Any] = json.loads((self.folder / CANARY_FILE).read_text())
        return canary


def is_finished(folder: Path) -> bool:
    """The committed model_repository/ranker/1 is not: it shows where an adaptor lies, and has no engine."""
    return (folder / MANIFEST).is_file()


def check_successor(old: Version, items: Vocabulary, actions: Vocabulary, lineage: str) -> None:
    """Raises InputError unless these vocabularies extend `old`'s, so that no index changes its meaning."""
    if old.lineage != lineage:
        raise InputError(
            f"lineage {lineage} is not {old.lineage}, that of {old.folder}: prepare the log with"
            " --extend and the data set the old version was trained on"
        )
    for kind, before, after in (("item", old.items, items), ("action", old.actions, actions)):
        if not before.is_prefix_of(after):
            number, was, now = next(_differences(before, after))
            raise InputError(
                f"{kind} index {number} means {was!r} in {old.folder} but {now!r} in the new version: a"
                " vocabulary may only grow at its end"
            )


def _differences(before: Vocabulary, after: Vocabulary) -> Iterator[tuple[int, str, str | None]]:
    new = iter(after)
    for number, was in enumerate(before, start=1):
        now = next(new, None)
        if was != now:
            yield number, was.decode(), None if now is None else now.decode()
