"""A catalogue of half a million items, from the log to served answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import make_checkpoint
from numpy.typing import NDArray

from footfall_client import Client, Event
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_engines.repository import Repository
from footfall_export import to_onnx
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_serving.publish import publish
from footfall_serving.server import running_server
from footfall_training.checkpoint import Checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NUM_ITEMS = 500_000
HISTORY_LENGTH = 4
TOP_K = 100
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Shop:
    dataset: Dataset
    checkpoint: Path
    item_table: NDArray[np.float32]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Each item is one of the first two events of one user, which is what training reads."""
    folder = tmp_path_factory.mktemp("large")
    random = np.random.default_rng(0)
    num_users = NUM_ITEMS // 2
    first = random.permutation(NUM_ITEMS).reshape(num_users, 2)
    item = np.hstack([first, random.integers(NUM_ITEMS, size=(num_users, HISTORY_LENGTH - 2))])
    time = MINUTE_MS * (1_700_000 * 16 + np.arange(item.size)).reshape(item.shape)
    log = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(num_users), HISTORY_LENGTH),
            "item_id": item.ravel(),
            "timestamp": time.ravel(),
        }
    )
    log.write_parquet(folder / "log.parquet")
    prepare([folder / "log.parquet"], folder / "dataset", PrepareOptions(k_core=1))
    dataset = Dataset.open(folder / "dataset")
    checkpoint = make_checkpoint(folder / "checkpoint", dataset, seed=0)
    model = Checkpoint.open(checkpoint).load_model()
    return Shop(dataset, checkpoint, model.item_table().detach().numpy())


@pytest.fixture(params=["onnxruntime", "onnxruntime with a mapped table and a shortlist", "torch"])
def client(
    request: pytest.FixtureRequest, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    repository = Repository(tmp_path / "repository")
    engine, _, mapped = request.param.partition(" with ")
    if mapped:
        monkeypatch.setattr(to_onnx, "MAPPED_FROM", 1 << 24)
    export(shop.checkpoint, repository.folder, ExportOptions(engine=engine))
    publish(repository.version_folder(1))
    with running_server(repository.folder) as state, Client(state.grpc_url, timeout=30) as client:
        yield client


def test_the_best_of_half_a_million_items_are_served(client: Client, shop: Shop) -> None:
    ids = [id_.decode() for id_ in shop.dataset.items]
    assert len(ids) == NUM_ITEMS
    for user in range(20):
        seen = slice(*shop.dataset.histories.offsets[user : user + 2])
        index = shop.dataset.histories.item[seen]
        history = [Event(ids[item - 1]) for item in index]
        answer = client.recommend(history, k=TOP_K)
        score = shop.item_table @ answer.user_vector
        score[0] = score[index] = -np.inf
        best = np.argsort(-score)[:TOP_K]
        np.testing.assert_allclose([item.score for item in answer.items], score[best], atol=1e-3)
        listed = [ids.index(item.id) + 1 for item in answer.items]
        np.testing.assert_allclose(score[listed], score[best], atol=1e-3)
        candidates = [ids[0], ids[NUM_ITEMS // 2], ids[-1]]
        scores = client.score(history, candidates)
        expected = (shop.item_table @ answer.user_vector)[[1, NUM_ITEMS // 2 + 1, NUM_ITEMS]]
        np.testing.assert_allclose(np.array(list(scores.values()), float), expected, atol=1e-3)
