"""Export: what a version is, what it is compared with, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
import torch
from conftest import make_checkpoint
from full_disk import on_a_full_disk

from footfall.contract import ENGINE_INPUTS, HEADS, TOP_K, engine_outputs
from footfall.errors import InputError, NotReadyError
from footfall.folder import read_manifest, write_manifest
from footfall.vocabulary import Vocabulary
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_engines.engine import load_engine
from footfall_engines.repository import Repository
from footfall_engines.version import ONNX_FILE, PLAN_FILE, Version
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_export.to_onnx import Target, write_onnx
from footfall_models.graph import BRANCHES, RankerGraph
from footfall_training.checkpoint import Checkpoint, save_checkpoint
from footfall_training.options import TrainOptions


def exported(checkpoint: Path, repository: Path, **options: str) -> Version:
    export(checkpoint, repository, ExportOptions(**options))  # type: ignore[arg-type]
    return Repository(repository).version(Repository(repository).numbers()[-1], verify=True)


def with_items(checkpoint: Path, out: Path, ids: list[bytes]) -> Path:
    """The checkpoint with other item ids, sealed again."""
    shutil.copytree(checkpoint, out)
    shutil.rmtree(out / "items")
    Vocabulary.from_ids(ids).save(out / "items")
    manifest = read_manifest(checkpoint, "checkpoint")
    write_manifest(out, "checkpoint", {name: manifest[name] for name in ("lineage", "repeat_ms", "created")})
    return out


def test_the_onnx_graph_has_the_contracts_names_and_free_lengths(tiny_repository: Path) -> None:
    model = onnx.load(str(Repository(tiny_repository).version_folder(1) / ONNX_FILE))
    *inputs, top_k = model.graph.input  # which has a default
    assert [value.name for value in inputs] == [tensor.name for tensor in ENGINE_INPUTS]
    assert top_k.name == TOP_K.name
    assert [value.name for value in model.graph.output] == [tensor.name for tensor in engine_outputs(HEADS)]
    for value, tensor in zip(inputs, ENGINE_INPUTS, strict=True):
        batch, length = value.type.tensor_type.shape.dim
        assert batch.dim_param
        assert length.dim_param if tensor.dims == (-1,) else length.dim_value == 1


def test_what_a_kind_of_user_does_not_need_is_behind_a_branch(tiny_repository: Path) -> None:
    graph = onnx.load(str(Repository(tiny_repository).version_folder(1) / ONNX_FILE)).graph
    branches = {
        node.name: attribute.g.node
        for node in graph.node
        for attribute in node.attribute
        if attribute.name == "then_branch"
    }
    assert list(branches) == [f"branch_{kind}" for kind in BRANCHES]
    readers = {
        name: [node.op_type for node in nodes if any("item_embedding" in name for name in node.input)]
        for name, nodes in {"always": graph.node, **branches}.items()
    }
    assert readers == {
        "always": ["Gather"],  # of the history's items
        "branch_catalogue": ["Gemm"],
        "branch_popular": [],
        "branch_candidates": ["Gather"],
    }
    operators = [node.op_type for node in graph.node]
    assert "TopK" not in operators
    # The last layer's one query asks the tokens themselves, not their keys and values.
    assert (operators.count("Attention"), operators.count("MultiHeadAttention")) == (1, 1)


@pytest.mark.parametrize(
    ("engine", "precision"),
    [("torch", "fp32"), ("torch", "fp16"), ("torch", "bf16")],
)
def test_every_engine_that_runs_here_is_measured_against_torch(
    tiny_checkpoint: Path, tmp_path: Path, engine: str, precision: str
) -> None:
    check_measured(exported(tiny_checkpoint, tmp_path, engine=engine, precision=precision))


def test_hstu_runs_in_onnxruntime(dataset: Dataset, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", dataset, seed=0, encoder="hstu")
    check_measured(exported(checkpoint, tmp_path / "repository"))


@pytest.mark.slow
def test_hstu_builds_in_tensorrt(dataset: Dataset, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", dataset, seed=0, encoder="hstu")
    plan = exported(checkpoint, tmp_path / "repository", engine="tensorrt").folder / PLAN_FILE
    assert plan.stat().st_size > 100_000


def test_the_default_engine_is_onnxruntime_in_fp32_and_measured(tiny_repository: Path) -> None:
    version = Repository(tiny_repository).version(1)
    assert (version.engine, version.precision) == ("onnxruntime", "fp32")
    check_measured(version)


def check_measured(version: Version) -> None:
    report = json.loads((version.folder / "parity.json").read_text())
    assert report["measured"]
    assert report["histories"] > 100
    assert set(report["differences"]) == {"item_score", "action_probability", "user_vector"}
    assert max(report["differences"].values()) <= report["threshold"]["difference"]
    assert report["top20_agreement"] >= report["threshold"]["agreement"]
    is_the_reference = (version.engine, version.precision) == ("torch", "fp32")
    assert (report["differences"]["item_score"] == 0) == is_the_reference


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_tensorrt_engine_is_really_built_and_says_it_was_not_measured(
    tiny_checkpoint: Path, tmp_path: Path, precision: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so the engine is measured")
    version = exported(tiny_checkpoint, tmp_path, engine="tensorrt", precision=precision)
    assert (version.folder / PLAN_FILE).stat().st_size > 10_000
    report = json.loads((version.folder / "parity.json").read_text())
    assert not report["measured"]
    assert "not measured" in report["reason"]
    assert report["differences"] == {}
    with pytest.raises(NotReadyError, match="needs an NVIDIA GPU"):
        load_engine(version)


def test_weights_beside_a_large_graph_do_not_stay_in_a_tensorrt_version(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large catalogue they lie there; here of any."""
    monkeypatch.setattr("footfall_export.to_onnx.MAPPED_FROM", 1)
    monkeypatch.setattr("footfall_export.to_onnx.BESIDE_FROM", 1)

    def write_large(graph: RankerGraph, path: Path, *, target: Target) -> None:
        write_onnx(graph, path, target=target)
        assert path.with_name(f"{path.name}.data").is_file()

    monkeypatch.setattr("footfall_export.export.write_onnx", write_large)
    version = exported(tiny_checkpoint, tmp_path, engine="tensorrt")
    assert (version.folder / PLAN_FILE).is_file()
    assert not [name for name in version.manifest["files"] if "onnx" in name]
    assert not list(version.folder.rglob("*.onnx*"))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_tensorrt_engine_agrees_with_torch(tiny_checkpoint: Path, tmp_path: Path, precision: str) -> None:
    version = exported(tiny_checkpoint, tmp_path, engine="tensorrt", precision=precision)
    assert json.loads((version.folder / "parity.json").read_text())["measured"]


def test_an_engine_too_far_from_torch_is_no_version(
    tiny_checkpoint: Path, dataset: Dataset, tmp_path: Path
) -> None:
    checkpoint = Checkpoint.open(tiny_checkpoint)
    model = checkpoint.load_model()
    with torch.no_grad():
        model.item_embedding.weight *= 100  # scores of hundreds: half precision is off by more than it may be
    save_checkpoint(tmp_path / "loud", model, dataset, checkpoint.samples, checkpoint.metrics, TrainOptions())
    with pytest.raises(InputError, match="the fp16 torch engine differs from torch by up to"):
        exported(tmp_path / "loud", tmp_path / "repository", engine="torch", precision="fp16")
    assert Repository(tmp_path / "repository").numbers() == []
    assert not list((tmp_path / "repository").glob("*/*"))


def test_versions_count_up_and_a_longer_vocabulary_of_the_lineage_follows(
    tiny_checkpoint: Path, dataset: Dataset, shop: Path, tmp_path: Path
) -> None:
    log = pl.DataFrame({"user_id": ["U00000001"] * 3, "item_id": ["new 1", "new 2", "new 1"]})
    log = log.with_columns(action=pl.lit("view"), timestamp=1_900_000_000_000 + pl.int_range(3) * 60_000)
    log.write_parquet(tmp_path / "later.parquet")
    options = PrepareOptions(extend=dataset.folder, k_core=1)
    prepare([shop / "events", tmp_path / "later.parquet"], tmp_path / "longer", options)
    longer = Dataset.open(tmp_path / "longer")
    assert len(longer.items) >= len(dataset.items) + 2
    repository = tmp_path / "repository"
    assert exported(tiny_checkpoint, repository, engine="torch").number == 1
    second = exported(make_checkpoint(tmp_path / "second", longer, 7), repository, engine="torch")
    assert second.number == 2
    assert b"new 2" in list(second.items)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda ids: [*ids[:4], b"other", *ids[5:]], "item index 5 means 'I.*but 'other'"),
        (lambda ids: ids[:-1], "but None in the new version"),
    ],
)
def test_a_vocabulary_that_does_more_than_grow_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, change: object, sentence: str
) -> None:
    exported(tiny_checkpoint, tmp_path / "repository", engine="torch")
    assert callable(change)
    changed = with_items(
        tiny_checkpoint, tmp_path / "changed", change(list(Checkpoint.open(tiny_checkpoint).items))
    )
    with pytest.raises(InputError, match=sentence):
        exported(changed, tmp_path / "repository", engine="torch")
    assert Repository(tmp_path / "repository").numbers() == [1]


def test_another_lineage_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    exported(tiny_checkpoint, tmp_path / "repository", engine="torch")
    other = tmp_path / "other"
    shutil.copytree(tiny_checkpoint, other)
    write_manifest(other, "checkpoint", {"lineage": "another", "repeat_ms": 5000})
    with pytest.raises(InputError, match="lineage another is not"):
        exported(other, tmp_path / "repository", engine="torch")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "openvino"}, "unknown engine 'openvino'; there are onnxruntime, tensorrt, torch"),
        ({"precision": "int4"}, "unknown precision 'int4'"),
        ({"engine": "onnxruntime", "precision": "bf16"}, "ONNX Runtime gains nothing from bf16 on a CPU"),
        ({"engine": "onnxruntime", "precision": "fp16"}, "ONNX Runtime gains nothing from fp16 on a CPU"),
        ({"backend": "tensorrt"}, "backend tensorrt runs a TensorRT plan"),
        ({"max_top_k": 5000}, "max_top_k is 5000"),
        ({"engine": "torch", "device": "gpu"}, "unknown device 'gpu'; there are cpu, cuda and cuda:N"),
        (
            {"engine": "torch", "implementation": "c"},
            "unknown implementation 'c'; there are reference, triton",
        ),
        ({"engine": "torch", "cache_mib": -1}, "cache_mib is -1, it must be in 0"),
        ({"implementation": "triton"}, "implementation triton is for the torch engine, not for onnxruntime"),
        ({"device": "cuda"}, "device cuda is for the torch engine, not for onnxruntime"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ExportOptions(**options)  # type: ignore[arg-type]


def test_a_killed_export_leaves_no_version_and_the_next_succeeds(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    program = Path(sys.executable).with_name("footfall")
    command = [str(program), "export", str(tiny_checkpoint), "--repository", str(tmp_path)]
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob(".aside/.partial-*")):
        assert run.poll() is None
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert Repository(tmp_path).numbers() == []
    assert exported(tiny_checkpoint, tmp_path, engine="torch").number == 1
    assert [path.name for path in (tmp_path / "ranker").iterdir()] == ["1"]
    assert not list(tmp_path.glob(".aside/.partial-*"))


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_a_full_disk_is_one_sentence_and_leaves_no_version(
    engine: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    run = on_a_full_disk(1_000, "export", tiny_checkpoint, "--repository", repository, "--engine", engine)
    assert run.returncode == 1
    folder = tmp_path / "repository" / "ranker"
    sentence = f"footfall: {folder} cannot be written, nothing is left of the new version: File too large"
    assert run.stderr.splitlines()[-1] == sentence
    assert "Traceback" not in run.stderr
    assert not list((tmp_path / "repository").glob("*/*"))


def test_a_repository_that_is_a_file_is_said(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file where a folder is needed"):
        exported(tiny_checkpoint, tmp_path / "file", engine="torch")


def test_the_canary_holds_real_requests_and_their_answers(tiny_repository: Path) -> None:
    version = Repository(tiny_repository).version(1)
    assert len(version.canary["requests"]) == 8
    for request in version.canary["requests"]:
        assert len(request["recommended_id"]) == 20
        assert not set(request["recommended_id"]) & set(request["item_id"])
        assert np.all(np.diff(request["score"]) <= 0)
