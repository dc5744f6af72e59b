"""Tuning: found by measuring, written beside its evidence, and read wherever a server's configuration is made."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import copied
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from footfall.contract import COMPOSING_MODELS, ENSEMBLE, MAX_BATCH
from footfall.errors import InputError
from footfall_data.dataset import Dataset
from footfall_engines.onnxruntime_engine import OnnxRuntimeEngine
from footfall_engines.repository import Repository
from footfall_engines.tuning import TUNING_FILE, Tuning
from footfall_loadtest.perf_inputs import perf_inputs
from footfall_loadtest.tune import Search
from footfall_loadtest.tune_options import TuneOptions
from footfall_loadtest.workload import Workload
from footfall_serving.publish import publish

FOOTFALL = str(Path(sys.executable).with_name("footfall"))


def config(repository: Path, model: str) -> pb.ModelConfig:
    return text_format.Parse(Repository(repository).config_path(model).read_text(), pb.ModelConfig())


def is_there(repository: Path, model: str) -> bool:
    return Repository(repository).config_path(model).is_file()


def test_each_setting_is_chosen_beside_the_best_of_those_before_it() -> None:
    asked: list[tuple[int, int]] = []

    def measure(settings: dict[str, Any]) -> float:
        asked.append((settings["instances"], settings["delay"]))
        return {1: 20.0, 2: 10.0}[settings["instances"]] + float(settings["delay"])

    search = Search({"instances": [1, 2], "delay": [5, 0]}, rounds=2)
    best = search.best(measure, lambda line: None)
    assert best.settings == {"instances": 2, "delay": 0}
    assert best.median_ms == 10
    assert asked == [(1, 5), (2, 5), (2, 5), (1, 5), (2, 5), (2, 0), (2, 0), (2, 5)], "forth and back"
    assert [trial.median_ms for trial in search.trials] == [25, 15, 15, 10]


def test_what_is_better_by_less_than_the_machines_noise_changes_nothing() -> None:
    """Not in every round: one that was disturbed decides nothing."""
    rounds = iter([60.0, 9.0, 9.0, 10.0])
    disturbed = Search({"delay": [0, 200]}, rounds=2)
    assert disturbed.best(lambda settings: next(rounds), print).settings == {"delay": 0}
    search = Search({"threads": [1, 2]}, rounds=1)
    assert search.best(lambda settings: 10.0 - settings["threads"] / 2, print).settings == {"threads": 1}
    assert search.best(lambda settings: 10.0 / settings["threads"], print).settings == {"threads": 2}


def test_a_tuning_is_kept_by_publish_and_is_in_every_configuration(
    tiny_repository: Path, tmp_path: Path
) -> None:
    repository = copied(tiny_repository, tmp_path / "repository")
    tuning = Tuning(instances=3, threads=2, queue_delay_us=700, max_batch=16)
    Repository(repository).write_tuning(tuning, {"rate": 5})
    publish(repository / "ranker" / "1")
    steps = [config(repository, model) for model in COMPOSING_MODELS if is_there(repository, model)]
    assert steps
    assert {step.max_batch_size for step in (*steps, config(repository, ENSEMBLE))} == {16}
    delays = [step.dynamic_batching.max_queue_delay_microseconds for step in steps]
    assert sorted(delays, reverse=True) == [700, *[0] * (len(steps) - 1)], "where the engine is"
    engine = OnnxRuntimeEngine(Repository(repository).version(1))
    assert engine._session.get_session_options().intra_op_num_threads == 2
    assert json.loads((repository / TUNING_FILE).read_text())["evidence"] == {"rate": 5}
    assert Tuning.of(tiny_repository) == Tuning()
    assert config(tiny_repository, ENSEMBLE).max_batch_size == MAX_BATCH


def test_instances_are_tuned_where_there_are_several() -> None:
    group = pb.ModelInstanceGroup
    several = pb.ModelConfig(instance_group=[group(count=4, kind=group.KIND_CPU)])
    assert Tuning(instances=2).applied(several).instance_group[0].count == 2
    one = pb.ModelConfig(instance_group=[group(count=1, kind=group.KIND_GPU)])
    assert Tuning(instances=2).applied(one).instance_group[0].count == 1, "the GPU's"
    untouched = pb.ModelConfig(instance_group=[group(count=4, kind=group.KIND_CPU)])
    assert Tuning().applied(untouched).instance_group[0].count == 4


def test_a_tuning_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / TUNING_FILE).write_text("{")
    with pytest.raises(InputError, match=r"tuning\.json is not what `footfall tune` wrote: .*; remove it or"):
        Tuning.of(tmp_path)
    wrong = {"instances": 0, "threads": 1, "queue_delay_us": 0, "max_batch": 8}
    (tmp_path / TUNING_FILE).write_text(json.dumps(wrong))
    with pytest.raises(InputError, match="instances is 0, it must be a whole number of at least 1"):
        Tuning.of(tmp_path)
    with pytest.raises(InputError, match=f"max_batch is 1000, engines take at most {MAX_BATCH}"):
        Tuning(max_batch=1000)
    with pytest.raises(InputError, match="rate is 0, it must be above 0"):
        TuneOptions(tmp_path, rate=0, p99_ms=50)


def test_the_inputs_of_perf_analyzer_are_real_histories(dataset: Dataset) -> None:
    requests = [request for request, _ in zip(Workload(dataset.folder).strangers(), range(3), strict=False)]
    inputs = perf_inputs(requests)
    assert len(inputs["data"]) == 3
    for request, row in zip(requests, inputs["data"], strict=True):
        assert row["item_id"] == {
            "content": [event.item for event in request.history],
            "shape": [len(request.history)],
        }
        assert row["now"] == {"content": [request.now], "shape": [1]}


@pytest.mark.slow
def test_a_repository_is_tuned_and_what_is_live_is_not_touched(
    tiny_repository: Path, dataset: Dataset, tmp_path: Path
) -> None:
    """Three minutes: up to 18 servers, each asked for two seconds."""
    repository = copied(tiny_repository, tmp_path / "repository")
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    command = [
        FOOTFALL,
        "tune",
        "--repository",
        str(repository),
        "--dataset",
        str(dataset.folder),
        "--rate",
        "20",
    ]
    quick = ["--seconds", "2", "--rounds", "1", "--json"]
    refused = subprocess.run(
        [*command, "--p99-ms", "0.01", *quick], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "no setting keeps a p99 of 0.01 ms at 20 requests a second" in refused.stderr
    assert {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()} == before
    done = subprocess.run([*command, "--p99-ms", "4000", *quick], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((repository / TUNING_FILE).read_text())
    tried = {trial["settings"]["queue_delay_us"] for trial in found["evidence"]["measured"]}
    assert tried == {0, 200, 1000}
    assert found["evidence"]["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert Tuning.of(repository).max_batch == found["max_batch"]
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repository"], "the copy is gone"
