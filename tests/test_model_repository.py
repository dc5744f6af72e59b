"""The generated files of a model repository."""

import json
import shutil
from pathlib import Path

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
    USER_ID,
    engine_outputs,
    response,
)
from footfall.errors import InputError
from footfall_engines.model_configs import step_config
from footfall_engines.repository import Repository, write_reference
from footfall_engines.version import Version

MODELS = (*COMPOSING_MODELS, ENSEMBLE)
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
    assert len(files(tmp_path)) == 7
    assert files(tmp_path) == files(committed), REGENERATE


def test_no_generated_file_holds_an_absolute_path_and_adaptors_are_short(committed: Path) -> None:
    for name, text in files(committed).items():
        assert '"/' not in text, name
        assert not name.endswith(".py") or len(text.splitlines()) <= 30


@pytest.mark.parametrize("model", MODELS)
def test_every_config_parses_and_names_its_model(committed: Path, model: str) -> None:
    config = parsed(committed / model / "config.pbtxt")
    assert config.name == model
    assert config.max_batch_size == MAX_BATCH


@pytest.mark.parametrize("step", COMPOSING_MODELS)
def test_a_step_batches_what_waits_and_has_no_policy_that_would_stall_it(committed: Path, step: str) -> None:
    config = parsed(committed / step / "config.pbtxt")
    assert config.HasField("dynamic_batching")
    assert not config.dynamic_batching.HasField("default_queue_policy")


def test_the_ensemble_takes_and_gives_the_contract_and_pins_every_step(committed: Path) -> None:
    config = parsed(committed / ENSEMBLE / "config.pbtxt")
    assert [(x.name, list(x.dims), x.optional) for x in config.input] == [
        (tensor.name, list(tensor.dims), tensor.optional) for tensor in REQUEST
    ]
    assert [x.name for x in config.output] == [tensor.name for tensor in response(HEADS)]
    assert [(step.model_name, step.model_version) for step in config.ensemble_scheduling.step] == [
        (step, 1) for step in COMPOSING_MODELS
    ]


def test_every_tensor_of_the_ensemble_comes_from_the_request_or_an_earlier_step(committed: Path) -> None:
    ensemble = parsed(committed / ENSEMBLE / "config.pbtxt")
    known = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        config = parsed(committed / step.model_name / "config.pbtxt")
        assert set(step.input_map) == {tensor.name for tensor in config.input}
        assert set(step.output_map) == {tensor.name for tensor in config.output}
        for tensor in config.input:
            assert known[step.input_map[tensor.name]] == (tensor.data_type, list(tensor.dims))
        for tensor in config.output:
            known[step.output_map[tensor.name]] = (tensor.data_type, list(tensor.dims))
    for tensor in ensemble.output:
        assert known[tensor.name] == (tensor.data_type, list(tensor.dims))


def test_the_rankers_tensors_are_the_engines_and_it_batches_unequal_lengths(committed: Path) -> None:
    config = parsed(committed / "ranker" / "config.pbtxt")
    assert [x.name for x in config.input] == [tensor.name for tensor in (*ENGINE_INPUTS, USER_ID)]
    assert [x.name for x in config.input if x.optional] == [USER_ID.name]
    assert [x.name for x in config.output] == [tensor.name for tensor in engine_outputs(HEADS)]
    assert config.HasField("dynamic_batching")
    assert {x.name for x in config.input if not x.allow_ragged_batch} == {
        "history_length",
        "user_id",
    }


def test_the_native_ranker_is_a_plan_that_batches_equal_shapes() -> None:
    config = step_config("ranker", [3], "tensorrt", HEADS)
    assert config.platform == "tensorrt_plan"
    assert config.default_model_filename == "model.plan"
    assert not any(x.allow_ragged_batch for x in config.input)
    python = step_config("ranker", [3], "python", HEADS)
    assert python.input.pop().name == USER_ID.name
    for mine, theirs in zip([*config.input, *config.output], [*python.input, *python.output], strict=True):
        assert (mine.name, mine.data_type, list(mine.dims)) == (
            theirs.name,
            theirs.data_type,
            list(theirs.dims),
        )


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
    version = Repository(tiny_repository).version(1)
    native = Version(version.folder, {**version.manifest, "backend": "tensorrt"})
    with pytest.raises(InputError, match="cannot be loaded side by side"):
        Repository(tmp_path).write_step_configs([version, native])


def test_an_ensemble_answers_with_its_versions_heads_and_the_ranker_declares_those_of_all(
    tiny_repository: Path, tmp_path: Path
) -> None:
    version = Repository(tiny_repository).version(1)
    silent = Version(version.folder, {**version.manifest, "heads": []})
    repository = Repository(tmp_path)
    repository.write_configs([version, silent], silent)
    ranker, ensemble = (parsed(repository.config_path(name)) for name in ("ranker", ENSEMBLE))
    assert [x.name for x in ranker.output] == [
        "item_index",
        "item_score",
        "action_probability",
        "user_vector",
    ]
    assert "action_probability" not in [x.name for x in ensemble.output]
    assert all("action_probability" not in step.output_map for step in ensemble.ensemble_scheduling.step)
    native = [Version(v.folder, {**v.manifest, "backend": "tensorrt"}) for v in (version, silent)]
    with pytest.raises(InputError, match="unlike heads"):
        repository.write_step_configs(native)
