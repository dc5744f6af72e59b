"""Tuning: what `footfall tune` found best for a repository on its machine; without one, the defaults."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2 as pb

from footfall.contract import MAX_BATCH, USER_VECTOR
from footfall.errors import InputError

TUNING_FILE = "tuning.json"


@dataclass(frozen=True)
class Tuning:
    """`instances`: of a step that has several, None: as many as it has. `threads`: of ONNX Runtime in each call.
    `queue_delay_us`: how long a request waits for others before the engine. `max_batch`: requests at once.
    """

    instances: int | None = None
    threads: int = 1
    """With 2, 32 histories of 50 events take 4.3 ms instead of 7.1 and one takes 0.31 ms as with 1 (12,101 items,
    width 64, 2 CPU cores); but other instances need the second core."""
    queue_delay_us: int = 0
    max_batch: int = MAX_BATCH

    def __post_init__(self) -> None:
        least = {"threads": 1, "queue_delay_us": 0, "max_batch": 1}
        for name, value in asdict(self).items():
            if value is None and name == "instances":
                continue
            if type(value) is not int or value < least.get(name, 1):
                raise InputError(
                    f"{name} is {value!r}, it must be a whole number of at least {least.get(name, 1)}"
                )
        if self.max_batch > MAX_BATCH:
            raise InputError(f"max_batch is {self.max_batch}, engines take at most {MAX_BATCH}")

    @classmethod
    def of(cls, repository: Path) -> "Tuning":
        """Of a model repository. Raises InputError where its file cannot be read."""
        path = repository / TUNING_FILE
        if not path.is_file():
            return cls()
        try:
            told = json.loads(path.read_text())
            return cls(**{field.name: told[field.name] for field in fields(cls)})
        except (ValueError, TypeError, KeyError, InputError) as error:
            raise InputError(
                f"{path} is not what `footfall tune` wrote: {error}; remove it or tune again"
            ) from error

    def applied(self, config: pb.ModelConfig) -> pb.ModelConfig:
        """The configuration of a step or the ensemble, whose largest batch must be its steps'; changed in place."""
        config.max_batch_size = self.max_batch
        for group in config.instance_group:
            if group.count > 1 and self.instances:
                group.count = self.instances
        has_engine = any(output.name == USER_VECTOR.name for output in config.output)
        if has_engine and self.queue_delay_us and config.HasField("dynamic_batching"):
            config.dynamic_batching.max_queue_delay_microseconds = self.queue_delay_us
        return config

    def text(self, evidence: dict[str, Any]) -> str:
        """Of its file, beside what it was found by, for people."""
        return json.dumps(asdict(self) | {"evidence": evidence}, indent=1) + "\n"
