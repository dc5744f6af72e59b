"""Export: a checkpoint becomes the next version of a model repository."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from footfall.contract import RANKER
from footfall.errors import NotReadyError
from footfall.folder import aside, write_manifest, writing
from footfall_engines.engine import load_engine
from footfall_engines.model_configs import adaptor
from footfall_engines.repository import ASIDE, SILENT, Repository, Say
from footfall_engines.tensorrt_library import check_server_reads_its_plans, library_version
from footfall_engines.torch_engine import TorchEngine, torch_dtype
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
from footfall_export.mix import training_mix
from footfall_export.options import ExportOptions
from footfall_export.parity import Parity, measure, not_measured
from footfall_export.to_onnx import write_onnx
from footfall_export.to_tensorrt import write_plan
from footfall_models.device import implementation_on
from footfall_models.graph import RankerGraph
from footfall_models.model import SequenceModel
from footfall_models.weights import CONFIG, WEIGHTS
from footfall_training.checkpoint import Checkpoint


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
    with writing(ranker, "nothing is left of the new version"), aside(home.folder / ASIDE) as folder:
        model = checkpoint.load_model()
        mix = training_mix(checkpoint, model)
        mix.save(folder)
        parity = _write_version(folder, checkpoint, model, options, facts)
        write_manifest(folder, KIND, facts | {"training_mix": mix.facts()})
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
    folder: Path, checkpoint: Checkpoint, model: SequenceModel, options: ExportOptions, facts: dict[str, Any]
) -> Parity:
    checkpoint.items.save(folder / "items")
    checkpoint.actions.save(folder / "actions")
    shutil.copyfile(checkpoint.folder / "items.parquet", folder / "items.parquet")
    version = Version(folder, facts)
    if RANKER in version.steps and version.backend == "python":
        (folder / "model.py").write_text(adaptor(RANKER))
    _write_engine(folder, checkpoint, options)
    reference = TorchEngine(model, options.max_top_k, "fp32", "cpu")
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
    graph = RankerGraph(checkpoint.load_model(), options.max_top_k, torch_dtype(options.precision))
    if options.engine == "onnxruntime":
        write_onnx(graph, folder / ONNX_FILE, target="onnxruntime")
        return
    # A folder of its own: of a large catalogue the exporter writes the tables into a file beside the graph.
    with TemporaryDirectory(dir=folder) as aside:
        write_onnx(graph, Path(aside, ONNX_FILE), target="tensorrt")
        write_plan(Path(aside, ONNX_FILE), folder / PLAN_FILE, checkpoint.config.max_length)
