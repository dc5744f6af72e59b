"""Repository: what lies in a model repository, what the server is to load of it, and which version is live."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from footfall.contract import COMPOSING_MODELS, ENSEMBLE, HEADS, RANKER, RECOMMENDER
from footfall.errors import InputError
from footfall.folder import make_folder, placed, replacing
from footfall_engines.model_configs import adaptor, config_text, ensemble_config, parameters, step_config
from footfall_engines.tuning import TUNING_FILE, Tuning
from footfall_engines.version import Version, is_finished

PROMOTIONS = ".promotions.jsonl"
ASIDE = ".aside"
"""What comes and goes lies in this folder of a repository. In a model's, the server would load every version of that
anew; beside the models, its index of them fails where a name goes before the server has looked at it.
"""
Say = Callable[[str], None]
SILENT: Say = lambda line: None  # noqa: E731


@dataclass(frozen=True)
class Repository:
    """The folder that the server reads: versions, the configs of the models, the log of promotions."""

    folder: Path

    @classmethod
    def around(cls, version: Path) -> "Repository":
        """The repository that a version's folder lies in. Raises InputError where it lies in none."""
        place = version.resolve()
        if place.parent.name != RANKER or not place.name.isdigit():
            raise InputError(
                f"{version} does not lie in a model repository, as <repository>/{RANKER}/<number>; name one with"
                " --repository"
            )
        return cls(place.parent.parent)

    def version_folder(self, number: int) -> Path:
        return self.folder / RANKER / str(number)

    def version(self, number: int, *, verify: bool = False) -> Version:
        """Raises InputError where it is not whole; `verify` compares every SHA-256."""
        return Version.open(self.version_folder(number), verify=verify)

    def number_of(self, folder: Path) -> int | None:
        """The number of the version in `folder` where that is one of the repository's."""
        name = folder.name
        inside = name.isdigit() and folder.resolve() == self.version_folder(int(name)).resolve()
        return int(name) if inside else None

    def numbers(self) -> list[int]:
        """Of its finished versions, ascending."""
        return [number for number in self._taken() if is_finished(self.version_folder(number))]

    def next_number(self) -> int:
        """The number after the last one that is taken, be it only by an unfinished folder or by the ensemble."""
        return max(*self._taken(), self._pinned() or 0, 0) + 1

    def live_number(self) -> int | None:
        """The version the ensemble on disk answers with, or None before the first was published."""
        number = self._pinned()
        return None if number is None or not is_finished(self.version_folder(number)) else number

    def loaded_numbers(self) -> list[int]:
        """The finished versions the composing models on disk load."""
        paths = (self.config_path(step) for step in COMPOSING_MODELS)
        pinned = {
            int(number)
            for path in paths
            if path.is_file()
            for number in _read(path).version_policy.specific.versions
        }
        return [number for number in sorted(pinned) if is_finished(self.version_folder(number))]

    def num_instances(self, step: str) -> int:
        """Of each version of a composing model that is loaded."""
        return sum(group.count for group in _read(self.config_path(step)).instance_group)

    def config_path(self, model: str) -> Path:
        return self.folder / model / "config.pbtxt"

    def write_configs(self, loaded: Sequence[Version], live: Version) -> None:
        """Have the composing models load `loaded` and the ensemble answer with `live`, one of them."""
        self.write_step_configs(loaded)
        self.write_ensemble_config(live)

    def write_step_configs(self, loaded: Sequence[Version]) -> None:
        """Raises InputError where the versions' rankers cannot be one model of the server."""
        _check_rankers([version for version in loaded if RANKER in version.steps])
        texts = {}
        for step in COMPOSING_MODELS:
            having = [version for version in loaded if step in version.steps]
            if having:
                numbers = sorted(version.number for version in having)
                # A step of Python declares all there are: a load then finds the same configuration and leaves alone
                # what is loaded, and the server takes an answer without some of the outputs.
                heads = having[0].heads if having[0].backend == "tensorrt" else HEADS
                config = step_config(step, numbers, having[0].backend, heads)
                texts[self.config_path(step)] = self._text(config)
        self.write_texts(texts)
        for step in COMPOSING_MODELS:
            if self.config_path(step) not in texts:
                self.config_path(step).unlink(missing_ok=True)

    def write_ensemble_config(self, version: Version, name: str = ENSEMBLE) -> None:
        with replacing(self.folder / name / "1"):
            (self.folder / name / "1").mkdir(parents=True, exist_ok=True)
        config = ensemble_config(
            version.number, version.steps, version.backend, version.heads, parameters(version)
        )
        config.name = name
        self.write_texts({self.config_path(name): self._text(config)})

    def write_adaptors(self, number: int, steps: Iterable[str]) -> None:
        """model.py of version `number` of those steps that lack it; a ranker's is a file of the version's own."""
        paths = {step: self.folder / step / str(number) / "model.py" for step in steps if step != RANKER}
        self.write_texts({path: adaptor(step) for step, path in paths.items() if not path.exists()})

    def newest(self, say: Say) -> Version | None:
        """The newest version that is whole; what is damaged is passed over, and said."""
        for number in reversed(self.numbers()):
            try:
                return self.version(number)
            except InputError as error:
                say(f"version {number} is passed over: {error}")
        return None

    def take_in(self, folder: Path, check: Callable[[], None]) -> int:
        """Give the finished version in `folder`, which lies on this disk, the next number, in one step.

        `check` is called before, and again where another took that number first.
        """
        steps = Version.open(folder).steps
        while True:
            check()
            make_folder(self.folder / RANKER)
            number = self.next_number()
            self.write_adaptors(number, steps)
            if placed(folder, self.version_folder(number)):
                return number

    def promotions(self) -> list[dict[str, Any]]:
        """Every promotion so far, oldest first: version, time, and `back` where it was a rollback."""
        path = self.folder / PROMOTIONS
        try:
            entries = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
            return [{**entry, "version": int(entry["version"])} for entry in entries]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path} is not a log of promotions: {error}") from error

    def record_promotion(self, number: int, *, back: bool = False) -> None:
        entry = {"version": number, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        with replacing(self.folder / PROMOTIONS), (self.folder / PROMOTIONS).open("a") as file:
            file.write(json.dumps({**entry, "back": True} if back else entry) + "\n")

    def earlier_numbers(self) -> list[int]:
        """What a rollback may go back to, the nearest first: what was live before and is still there.

        A rollback takes what it leaves, and all that came after its target, out of the line; so a second one goes
        further back and not forth again.
        """
        line: list[int] = []
        for entry in self.promotions():
            number = entry["version"]
            if entry.get("back") and number in line:
                while line[-1] != number:
                    line.pop()
            else:
                line.append(number)
        live, known = self.live_number(), set(self.numbers())
        return [number for number in dict.fromkeys(reversed(line)) if number != live and number in known]

    def aside(self, path: Path, purpose: str = "partial") -> Path:
        """Where another text of a file may lie (see ASIDE)."""
        return self.folder / ASIDE / f"{'.'.join(path.relative_to(self.folder).parts)}.{purpose}"

    def write_texts(self, texts: Mapping[Path, str]) -> None:
        """Replace each file whose text is another, in one step, so that the server never reads half of it; none
        unless all could be written.
        """
        changed = {path: text for path, text in texts.items() if not _has(path, text)}
        try:
            for path, text in changed.items():
                with replacing(path):
                    for folder in (path.parent, self.folder / ASIDE):
                        folder.mkdir(parents=True, exist_ok=True)
                    with self.aside(path).open("w") as file:
                        file.write(text)
                        file.flush()
                        os.fsync(file.fileno())
            for path in changed:
                with replacing(path):
                    self.aside(path).replace(path)
        except BaseException:
            for path in changed:
                with contextlib.suppress(OSError):
                    self.aside(path).unlink(missing_ok=True)
                    path.parent.rmdir()  # only where it is empty
            raise

    def write_tuning(self, tuning: Tuning, evidence: dict[str, Any]) -> None:
        self.write_texts({self.folder / TUNING_FILE: tuning.text(evidence)})

    def most_instances(self) -> int:
        """Of a version's step, by the configurations on disk."""
        paths = [self.config_path(step) for step in COMPOSING_MODELS]
        groups = [group for path in paths if path.is_file() for group in _read(path).instance_group]
        return max(int(group.count) for group in groups)

    def _text(self, config: pb.ModelConfig) -> str:
        return config_text(Tuning.of(self.folder).applied(config))

    def _pinned(self) -> int | None:
        """The version that the ensemble names; the reference copy's names one that is not there."""
        path = self.config_path(ENSEMBLE)
        if not path.is_file():
            return None
        steps = _read(path).ensemble_scheduling.step
        if not steps:
            raise InputError(f"{path} is not the configuration of an ensemble: it has no steps")
        return int(steps[0].model_version)

    def _taken(self) -> list[int]:
        folders = (self.folder / RANKER).glob("[0-9]*")
        return sorted(int(folder.name) for folder in folders if folder.name.isdigit())


def write_reference(folder: Path) -> None:
    """The copy that stands in the project: the files of a version 1 that nobody exported, so without its facts."""
    repository = Repository(folder)
    facts = {"version": "1", "actions": "[]", "max_length": "0", "max_top_k": "0", "num_items": "0"}
    configs = {
        RECOMMENDER: step_config(RECOMMENDER, [1], "python", HEADS, instances=2),
        ENSEMBLE: ensemble_config(1, (RECOMMENDER,), "python", list(HEADS), facts),
    }
    repository.write_texts(
        {repository.config_path(model): config_text(config) for model, config in configs.items()}
    )
    repository.write_adaptors(1, [RECOMMENDER])


def _check_rankers(versions: Sequence[Version]) -> None:
    numbers = ", ".join(str(version.number) for version in versions)
    backends = {version.backend for version in versions}
    if len(backends) > 1:
        raise InputError(
            f"the rankers of versions {numbers} run on the backends {', '.join(sorted(backends))}; one model of the"
            " server has one backend, so they cannot be loaded side by side"
        )
    if backends == {"tensorrt"} and len({version.heads for version in versions}) > 1:
        raise InputError(
            f"versions {numbers} have unlike heads; plans that the server runs itself have one list of outputs, so"
            " they cannot be loaded side by side"
        )


def _read(path: Path) -> pb.ModelConfig:
    try:
        return text_format.Parse(path.read_text(), pb.ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a model's configuration: {error}") from error


def _has(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
