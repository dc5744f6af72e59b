"""Export: a checkpoint becomes the next version of a model repository."""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch

from footfall.contract import DEFAULT_MAX_TOP_K, RANKER
from footfall.errors import InputError, NotReadyError, check_choice
from footfall.folder import aside, write_manifest, writing
from footfall_engines.engine import ENGINES, load_engine
from footfall_engines.model_configs import adaptor
from footfall_engines.repository import SILENT, Repository, Say
from footfall_engines.tensorrt_library import check_server_reads_its_plans, library_version
from footfall_engines.torch_engine import PRECISIONS, TorchEngine
from footfall_engines.version import (
    CANARY_FILE,
    KIND,
    ONNX_FILE,
    PARITY_FILE,
    PLAN_FILE,
    Version,
    check_successor,
)
from footfall_export.canary import canary
from footfall_export.parity import Parity, measure, not_measured
from footfall_export.to_onnx import write_onnx
from footfall_export.to_tensorrt import write_plan
from footfall_kernels.implementations import ImplementationName
from footfall_models.config import check_device_name
from footfall_models.device import implementation_on
from footfall_models.graph import RankerGraph
from footfall_models.weights import CONFIG, WEIGHTS
from footfall_training.checkpoint import Checkpoint

BACKENDS = ("python", "tensorrt")
TORCH_ONLY = ("device", "implementation", "cache_mib")
MAX_CACHE_MIB = 1 << 20
MAX_TOP_K = 3840
"""TensorRT's limit of a top-k layer."""


@dataclass(frozen=True)
class ExportOptions:
    """`backend` tensorrt: the server runs the plan itself, as in NVIDIA's container.

    Of the torch engine: `device`, `implementation` of its kernels (None: the device's), and `cache_mib`, what it
    keeps of returning users at most.
    """

    engine: str = "onnxruntime"
    precision: str = "fp32"
    max_top_k: int = DEFAULT_MAX_TOP_K
    backend: str = "python"
    device: str = "cpu"
    implementation: ImplementationName | None = None
    cache_mib: int = 256

    def __post_init__(self) -> None:
        for name, known in (("engine", ENGINES), ("precision", PRECISIONS), ("backend", BACKENDS)):
            check_choice(name, getattr(self, name), known)
        if not 1 <= self.max_top_k <= MAX_TOP_K:
            raise InputError(f"max_top_k is {self.max_top_k}, it must be in 1..{MAX_TOP_K}")
        if self.backend == "tensorrt" and self.engine != "tensorrt":
            raise InputError(f"backend tensorrt runs a TensorRT plan, not a {self.engine} engine")
        if self.engine == "onnxruntime" and self.precision != "fp32":
            # Tried on a CPU: fp16 was no faster and the file hardly smaller; bf16 has no kernels.
            raise InputError(
                f"ONNX Runtime gains nothing from {self.precision} on a CPU; use fp32, or engine torch or tensorrt"
            )
        check_device_name(self.device)
        if self.implementation is not None:
            check_choice("implementation", self.implementation, get_args(ImplementationName))
        if not 0 <= self.cache_mib <= MAX_CACHE_MIB:
            raise InputError(f"cache_mib is {self.cache_mib}, it must be in 0..{MAX_CACHE_MIB}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in TORCH_ONLY and value != field.default and self.engine != "torch":
                raise InputError(f"{field.name} {value} is for the torch engine, not for {self.engine}")


def export(
    checkpoint_folder: Path, repository: Path, options: ExportOptions, say: Say = SILENT
) -> dict[str, Any]:
    """Write the repository's next version and return its facts; nothing is left where a check fails.

    Its number is taken when it is finished, so that of two exports at once each gets its own.
    Raises InputError where the checkpoint is not of the repository's lineage or the engine is too far from torch.
    """
    checkpoint = Checkpoint.open(checkpoint_folder)
    if options.backend == "tensorrt":
        check_server_reads_its_plans()
    home = Repository(repository)

    def check(say: Say = SILENT) -> None:
        newest = home.newest(say)
        if newest is not None:
            check_successor(newest, checkpoint.items, checkpoint.actions, checkpoint.lineage)

    check(say)
    facts, ranker = _facts(checkpoint, options), home.folder / RANKER
    with writing(ranker, "nothing is left of the new version"), aside(ranker) as folder:
        parity = _write_version(folder, checkpoint, options, facts)
        write_manifest(folder, KIND, facts)
        number = home.take_in(folder, check)
    return {"version": number, "folder": str(home.version_folder(number)), "parity": parity.as_json()}


def _facts(checkpoint: Checkpoint, options: ExportOptions) -> dict[str, Any]:
    config = checkpoint.config
    return {
        "engine": options.engine,
        "precision": options.precision,
        "backend": options.backend,
        "device": options.device,
        "implementation": implementation_on(torch.device(options.device), options.implementation),
        "cache_mib": options.cache_mib if options.engine == "torch" else 0,
        "built_with": _built_with(options.engine),
        "lineage": checkpoint.lineage,
        "repeat_ms": checkpoint.rules.repeat_ms,
        "max_length": config.max_length,
        "max_top_k": min(options.max_top_k, config.num_items),
        "width": config.width,
        "num_items": config.num_items,
        "heads": config.heads,
        "actions": [name.decode() for name in checkpoint.actions],
        "metrics": checkpoint.metrics,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _built_with(engine: str) -> str:
    return library_version() if engine == "tensorrt" else f"torch {torch.__version__}"


def _write_version(
    folder: Path, checkpoint: Checkpoint, options: ExportOptions, facts: dict[str, Any]
) -> Parity:
    for name in ("items", "actions"):
        shutil.copytree(checkpoint.folder / name, folder / name)
    shutil.copyfile(checkpoint.folder / "items.parquet", folder / "items.parquet")
    if options.backend == "python":
        (folder / "model.py").write_text(adaptor(RANKER))
    _write_engine(folder, checkpoint, options)
    reference = TorchEngine(checkpoint.load_model(), options.max_top_k, "fp32", "cpu")
    version = Version(folder, facts)
    try:
        engine = load_engine(version)
    except NotReadyError as error:
        # A TensorRT engine, or torch on cuda, where there is no GPU.
        recorded = canary(checkpoint, reference, options.precision)
        parity = not_measured(options.engine, options.precision, str(error))
    else:
        recorded = canary(checkpoint, engine, options.precision)
        parity = measure(engine, reference, checkpoint.samples, version)
    parity.check()
    (folder / CANARY_FILE).write_text(json.dumps(recorded) + "\n")
    (folder / PARITY_FILE).write_text(json.dumps(parity.as_json(), indent=2) + "\n")
    return parity


def _write_engine(folder: Path, checkpoint: Checkpoint, options: ExportOptions) -> None:
    if options.engine == "torch":
        for name in (WEIGHTS, CONFIG):
            shutil.copyfile(checkpoint.folder / name, folder / name)
        return
    graph = RankerGraph(checkpoint.load_model(), options.max_top_k, PRECISIONS[options.precision])
    if options.engine == "onnxruntime":
        write_onnx(graph, folder / ONNX_FILE)
        return
    # A folder of its own: past 2 GiB the exporter writes the weights into a file beside the graph.
    with TemporaryDirectory(dir=folder) as aside:
        write_onnx(graph, Path(aside, ONNX_FILE))
        write_plan(Path(aside, ONNX_FILE), folder / PLAN_FILE, checkpoint.config.max_length)
