"""The generated files of a model repository."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from footfall.contract import (
    COMPOSING_MODELS,
    ENGINE_INPUTS,
    ENSEMBLE,
    HEADS,
    MAX_BATCH,
    REQUEST,
    engine_outputs,
    response,
)
from footfall.errors import InputError
from footfall_engines.model_configs import CORES, step_config
from footfall_engines.repository import Repository, write_reference
from footfall_engines.version import Version

COMMITTED = ROOT / "model_repository"
REGENERATE = (
    "regenerate: python -c 'from pathlib import Path; from footfall_engines.repository import write_reference;"
    ' write_reference(Path("model_repository"))\''
)


def parsed(path: Path) -> pb.ModelConfig:
    return text_format.Parse(path.read_text(), pb.ModelConfig())


def files(repository: Path) -> dict[str, str]:
    paths = [*repository.glob("*/config.pbtxt"), *repository.glob("*/1/model.py")]
    return {str(path.relative_to(repository)): path.read_text() for path in paths}


@pytest.fixture(scope="module")
def committed() -> Path:
    """The repository's own copy, where nobody has published over it."""
    if Repository(COMMITTED).numbers():
        pytest.skip("versions were published into model_repository, which rewrote the committed files")
    return COMMITTED


def test_the_committed_files_are_what_is_generated(committed: Path, tmp_path: Path) -> None:
    write_reference(tmp_path)
    assert len(files(tmp_path)) == 3
    assert files(tmp_path) == files(committed), REGENERATE


def test_no_generated_file_holds_an_absolute_path_and_adaptors_are_short(committed: Path) -> None:
    for name, text in files(committed).items():
        assert '"/' not in text, name
        assert not name.endswith(".py") or len(text.splitlines()) <= 30


@pytest.fixture(params=["onnxruntime", "torch", "tensorrt", "native"])
def generated(
    request: pytest.FixtureRequest, tiny_repository: Path, tmp_path: Path
) -> dict[str, pb.ModelConfig]:
    """The configurations of a version of each kind that can be live, by the name of the model."""
    kinds: dict[str, dict[str, Any]] = {
        "torch": {"engine": "torch", "cache_mib": 8},
        "tensorrt": {"engine": "tensorrt"},
        "native": {"engine": "tensorrt", "backend": "tensorrt"},
    }
    live = changed(tiny_repository, **kinds.get(request.param, {}))
    Repository(tmp_path).write_configs([live], live)
    return {path.parent.name: parsed(path) for path in tmp_path.glob("*/config.pbtxt")}


def changed(repository: Path, **changes: Any) -> Version:
    version = Repository(repository).version(1)
    return Version(version.folder, version.manifest | changes)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, ["recommender"]),
        ({"engine": "torch", "cache_mib": 0}, ["recommender"]),
        ({"engine": "torch", "cache_mib": 1}, ["preprocess", "ranker"]),
        ({"engine": "torch", "cache_mib": 0, "device": "cuda:1"}, ["preprocess", "ranker"]),
        ({"engine": "tensorrt"}, ["preprocess", "ranker"]),
        ({"engine": "tensorrt", "backend": "tensorrt"}, ["preprocess", "ranker", "postprocess"]),
    ],
)
def test_the_steps_follow_the_engine(
    tiny_repository: Path, changes: dict[str, Any], steps: list[str]
) -> None:
    assert list(changed(tiny_repository, **changes).steps) == steps


def test_every_config_names_its_model_and_the_ensemble_pins_each_step(
    generated: dict[str, pb.ModelConfig],
) -> None:
    for name, config in generated.items():
        assert (config.name, config.max_batch_size) == (name, MAX_BATCH)
    steps = [(step.model_name, step.model_version) for step in generated[ENSEMBLE].ensemble_scheduling.step]
    assert steps == [(step, 1) for step in COMPOSING_MODELS if step in generated]


def test_a_step_batches_what_waits_and_has_no_policy_that_would_stall_it(
    generated: dict[str, pb.ModelConfig],
) -> None:
    for name in generated.keys() - {ENSEMBLE}:
        batching = generated[name].dynamic_batching
        assert generated[name].HasField("dynamic_batching")
        assert not batching.HasField("default_queue_policy")
        assert batching.max_queue_delay_microseconds == 0


def test_every_tensor_of_the_ensemble_comes_from_the_request_or_an_earlier_step(
    generated: dict[str, pb.ModelConfig],
) -> None:
    ensemble = generated[ENSEMBLE]
    known = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in ensemble.input}
    assert list(known) == [tensor.name for tensor in REQUEST]
    for step in ensemble.ensemble_scheduling.step:
        config = generated[step.model_name]
        assert set(step.input_map) == {tensor.name for tensor in config.input}
        assert set(step.output_map) == {tensor.name for tensor in config.output}
        for tensor in config.input:
            assert known[step.input_map[tensor.name]] == (tensor.data_type, list(tensor.dims))
        for tensor in config.output:
            known[step.output_map[tensor.name]] = (tensor.data_type, list(tensor.dims))
    assert [tensor.name for tensor in ensemble.output] == [tensor.name for tensor in response(HEADS)]
    for tensor in ensemble.output:
        assert known[tensor.name] == (tensor.data_type, list(tensor.dims))


def test_lists_of_unequal_length_are_batched_and_an_instance_runs_on_each_core(tiny_repository: Path) -> None:
    live = changed(tiny_repository)
    config = step_config(live.steps[0], [1], live.backend, HEADS)
    assert {x.name for x in config.input if x.allow_ragged_batch} == {
        tensor.name for tensor in REQUEST if tensor.dims == (-1,)
    }
    assert [group.count for group in config.instance_group] == [CORES]
    assert [group.count for group in step_config("ranker", [1], "python", HEADS).instance_group] == [1]


def test_the_native_ranker_is_a_plan_that_batches_equal_shapes() -> None:
    config = step_config("ranker", [3], "tensorrt", HEADS)
    assert config.platform == "tensorrt_plan"
    assert config.default_model_filename == "model.plan"
    assert not any(x.allow_ragged_batch for x in config.input)
    assert [x.name for x in config.input] == [tensor.name for tensor in ENGINE_INPUTS]
    assert [x.name for x in config.output] == [tensor.name for tensor in engine_outputs(HEADS)]


def test_what_is_live_and_loaded_is_read_back(tiny_repository: Path, tmp_path: Path) -> None:
    assert Repository(tmp_path).live_number() is None
    assert Repository(tmp_path).loaded_numbers() == []
    repository = tmp_path / "repository"
    shutil.copytree(tiny_repository, repository)
    version = Repository(repository).version(1)
    Repository(repository).write_configs([version], version)
    assert Repository(repository).live_number() == 1
    assert Repository(repository).loaded_numbers() == [1]
    parameters = parsed(repository / ENSEMBLE / "config.pbtxt").parameters
    assert json.loads(parameters["actions"].string_value) == version.manifest["actions"]
    assert parameters["max_top_k"].string_value == "100"


def test_rankers_of_two_backends_cannot_stand_side_by_side(tiny_repository: Path, tmp_path: Path) -> None:
    kinds = {"engine": "tensorrt", "backend": "python"}, {"engine": "tensorrt", "backend": "tensorrt"}
    python, native = (changed(tiny_repository, **kind) for kind in kinds)
    with pytest.raises(InputError, match="cannot be loaded side by side"):
        Repository(tmp_path).write_step_configs([python, native])


def test_versions_of_unlike_steps_stand_side_by_side_and_a_step_that_none_has_goes(
    tiny_repository: Path, tmp_path: Path
) -> None:
    together, apart = (changed(tiny_repository, **kind) for kind in ({}, {"engine": "torch", "cache_mib": 8}))
    repository = Repository(tmp_path)
    repository.write_step_configs([together, apart])
    assert sorted(path.parent.name for path in tmp_path.glob("*/config.pbtxt")) == [
        "preprocess",
        "ranker",
        "recommender",
    ]
    assert (repository.num_instances("ranker"), repository.num_instances("recommender")) == (1, CORES)
    repository.write_step_configs([together])
    assert [path.parent.name for path in tmp_path.glob("*/config.pbtxt")] == ["recommender"]


def test_an_ensemble_answers_with_its_versions_heads_and_its_step_declares_all(
    tiny_repository: Path, tmp_path: Path
) -> None:
    version, silent = Repository(tiny_repository).version(1), changed(tiny_repository, heads=[])
    repository = Repository(tmp_path)
    repository.write_configs([version, silent], silent)
    step, ensemble = (parsed(repository.config_path(name)) for name in ("recommender", ENSEMBLE))
    assert "action_probability" in [x.name for x in step.output]
    assert "action_probability" not in [x.name for x in ensemble.output]
    assert all("action_probability" not in step.output_map for step in ensemble.ensemble_scheduling.step)
    native = [changed(tiny_repository, backend="tensorrt", heads=heads) for heads in (version.heads, ())]
    with pytest.raises(InputError, match="unlike heads"):
        repository.write_step_configs(native)
