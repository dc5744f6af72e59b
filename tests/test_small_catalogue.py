"""Catalogues of 1, 2 and 3 items, from the log to the load test: a default length is cut to what there is."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from footfall.errors import InputError
from footfall.history import ModelInput
from footfall_client import Client, InvalidRequest
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_engines.batch import Batch, IndexLists
from footfall_engines.repository import Repository
from footfall_engines.torch_engine import TorchEngine
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_models.config import ModelConfig
from footfall_models.model import SequenceModel
from footfall_serving.canary import _agreement
from footfall_serving.publish import publish
from footfall_serving.server import running_server
from footfall_serving.state import ServerState
from footfall_training.options import TrainOptions
from footfall_training.train import train

FOOTFALL = str(Path(sys.executable).with_name("footfall"))
SHOPS = [1, 3]
PROTOCOLS: tuple[Literal["grpc", "http"], ...] = ("grpc", "http")


def footfall(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([FOOTFALL, *map(str, arguments)], capture_output=True, text=True, check=False)


class Shop:
    """One that is served, with `items` items that each of its six users has seen all of."""

    def __init__(self, folder: Path, items: int) -> None:
        rows = [
            f"{user},i{turn % items},{1_700_000_000 + turn * 10_000}"
            for user in "abcdef"
            for turn in range(5)
        ]
        (folder / "events.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
        self.dataset, self.repository = folder / "dataset", folder / "repository"
        prepare([folder / "events.csv"], self.dataset, PrepareOptions())
        dataset = Dataset.open(self.dataset)
        assert len(dataset.items) == items
        config = ModelConfig(items, len(dataset.actions), width=16)
        train(dataset, folder / "checkpoint", config, TrainOptions(epochs=1))
        export(folder / "checkpoint", self.repository, ExportOptions())
        home = Repository(self.repository)
        shutil.copytree(home.version_folder(1), home.version_folder(2))
        publish(home.version_folder(1))
        self.ids = [f"i{number}" for number in range(items)]


@pytest.fixture(scope="module", params=SHOPS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"), request.param)


@pytest.fixture(scope="module")
def state(shop: Shop) -> Iterator[ServerState]:
    with running_server(shop.repository) as state:
        yield state


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_default_k_is_cut_to_the_catalogue_and_only_an_explicit_one_is_refused(
    shop: Shop, state: ServerState, protocol: Literal["grpc", "http"]
) -> None:
    count = len(shop.ids)
    with Client(state.grpc_url if protocol == "grpc" else state.http_url, protocol, timeout=60) as client:
        assert sorted(item.id for item in client.recommend([]).items) == shop.ids
        assert sorted(item.id for item in client.recommend(["i0"], k=count).items) == shop.ids[1:]
        assert sorted(item.id for item in client.recommend(["i0"], exclude_seen=False).items) == shop.ids
        assert [item.id for item in client.recommend([], candidates=["i0", "nope"]).items] == ["i0"]
        assert list(client.score(shop.ids, [*shop.ids, "nope"])) == [*shop.ids, "nope"]
        with pytest.raises(InvalidRequest, match=f"top_k is {count + 1}, this version takes 1 to {count}"):
            client.recommend(["i0"], k=count + 1)


def test_who_has_seen_every_item_is_told_of_none_and_of_the_next_action(
    shop: Shop, state: ServerState
) -> None:
    with Client(state.grpc_url, timeout=60) as client:
        answer = client.recommend(shop.ids)
    assert answer.items == ()
    assert sum(answer.action_probability.values()) == pytest.approx(1.0, abs=1e-5)


def test_the_command_lines_ask_with_what_there_is(shop: Shop, state: ServerState, tmp_path: Path) -> None:
    asked = footfall("recommend", "--url", state.grpc_url, "--item", "i0", "--json", "--timeout", "60")
    assert asked.returncode == 0, asked.stderr
    assert sorted(item["id"] for item in json.loads(asked.stdout)["items"]) == shop.ids[1:]
    refused = footfall("recommend", "--url", state.grpc_url, "--item", "i0", "-k", "20")
    assert refused.returncode == 1
    assert f"top_k is 20, this version takes 1 to {len(shop.ids)}" in refused.stderr
    urls = ["--url", state.grpc_url, "--http-url", state.http_url, "--metrics-url", ""]
    command = ("--dataset", shop.dataset, "--out", tmp_path, "--scenario", "mixed", "--rate", "30")
    loaded = footfall("loadtest", *command, *urls, "--seconds", "1", "--json")
    assert loaded.returncode == 0, loaded.stderr
    measured = json.loads(loaded.stdout)["total"]
    assert (measured["requests"], measured["failures"]) == (30, 0)


def test_a_version_whose_users_have_seen_every_item_is_published(shop: Shop, state: ServerState) -> None:
    home = Repository(shop.repository)
    assert [] in [request["recommended_id"] for request in home.version(2).canary["requests"]]
    assert publish(home.version_folder(2)).serving
    with Client(state.grpc_url, timeout=60) as client:
        assert client.recommend([]).model_version == 2


def test_an_answer_agrees_with_an_empty_one_only_where_it_is_empty() -> None:
    assert _agreement([], []) == 1.0
    assert _agreement(["a"], []) == 0.0
    assert _agreement([], ["a"]) == 0.0
    assert _agreement(["a", "c"], ["a", "b"]) == 0.5


def test_the_longest_list_of_an_export_is_cut_to_the_catalogue(shop: Shop) -> None:
    assert Repository(shop.repository).version(1).max_top_k == len(shop.ids)
    with pytest.raises(InputError, match="max_top_k is 0"):
        ExportOptions(max_top_k=0)


@pytest.mark.parametrize("items", [1, 2, 3])
def test_the_torch_engine_lists_no_padding_for_a_catalogue_shorter_than_its_list(items: int) -> None:
    torch.manual_seed(0)
    engine = TorchEngine(SequenceModel(ModelConfig(items, 1, width=16, max_length=20)), 100, "fp32", "cpu")
    every, none = np.arange(1, items + 1, dtype=np.int32), np.zeros(0, np.int32)
    zeros = np.zeros(items, np.int32)
    history = ModelInput(every, zeros + 1, zeros, zeros, zeros, zeros, np.array([0, items]))
    for excluded, listed in ((none, every), (every[:1], every[1:]), (every, none)):
        scores = engine.score(Batch(history, IndexLists.of([excluded]), IndexLists.of([none])))
        possible = ~np.isneginf(scores.item_score[0])
        assert sorted(scores.item_index[0, possible]) == listed.tolist()
        assert not scores.item_index[0, ~possible].any()
