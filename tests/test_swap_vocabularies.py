"""Swaps between versions of unlike vocabularies, forth and back, under clients made before, between and after."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from asker import Asker
from conftest import make_checkpoint

from footfall.contract import TOP_K
from footfall_client import AsyncClient, Client, Event, InvalidRequest, Recommendation
from footfall_client._calls import Call, Calls
from footfall_client._settings import Protocol
from footfall_data.dataset import Dataset
from footfall_data.options import PrepareOptions
from footfall_data.prepare import prepare
from footfall_engines.repository import Repository
from footfall_export.export import export
from footfall_export.options import ExportOptions
from footfall_serving.publish import publish, rollback
from footfall_serving.server import running_server
from footfall_serving.state import ServerState

PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http")
NEW_ITEM, NEW_ACTION = "new 1", "lease"
LONGEST_LIST = {1: 30, 2: 50}
NUM_CANDIDATES = 45


@pytest.fixture(scope="module")
def repository(dataset: Dataset, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 is of the shop's log, version 2 of a month with more items and one more action; none is live."""
    folder = tmp_path_factory.mktemp("vocabularies")
    rows = [(NEW_ITEM, "view"), (NEW_ITEM, NEW_ACTION), ("new 2", NEW_ACTION)]
    later = pl.DataFrame(rows, ["item_id", "action"], orient="row").with_columns(
        user_id=pl.lit("U00000001"), timestamp=1_900_000_000_000 + pl.int_range(3) * 60_000
    )
    later.write_parquet(folder / "later.parquet")
    options = PrepareOptions(extend=dataset.folder, k_core=1)
    prepare([shop / "events", folder / "later.parquet"], folder / "longer", options)
    for number, data in ((1, dataset), (2, Dataset.open(folder / "longer"))):
        checkpoint = make_checkpoint(folder / f"checkpoint{number}", data, number)
        export(checkpoint, folder / "repository", ExportOptions(max_top_k=LONGEST_LIST[number]))
    return folder / "repository"


@pytest.fixture(scope="module")
def actions(repository: Path) -> dict[int, list[str]]:
    """Of each version."""
    names = {number: Repository(repository).version(number).manifest["actions"] for number in (1, 2)}
    assert names[2] == [*names[1], NEW_ACTION]
    return names


@contextmanager
def clients(state: ServerState) -> Iterator[list[Client]]:
    urls = {"grpc": state.grpc_url, "http": state.http_url}
    with ExitStack() as stack:
        yield [stack.enter_context(Client(urls[protocol], protocol, timeout=20)) for protocol in PROTOCOLS]


def ask(ids: list[str], client: Client) -> Recommendation:
    """A list and then scores."""
    answer = client.recommend(ids[:3], k=10)
    assert None not in client.score(ids[:3], ids[:NUM_CANDIDATES]).values()
    return answer


def test_clients_outlive_swaps_to_longer_and_shorter_vocabularies(
    repository: Path, actions: dict[int, list[str]], dataset: Dataset
) -> None:
    ids = [id_.decode() for id_ in dataset.items.ids(range(1, NUM_CANDIDATES + 1))]
    history = [Event(ids[0]), Event(NEW_ITEM, NEW_ACTION), Event(ids[1], "cart")]
    publish(Repository(repository).version_folder(1), repository)

    def check(asked: list[Client], version: int) -> None:
        for client in asked:
            answer = client.recommend(history)
            assert answer.model_version == version
            assert list(answer.action_probability) == actions[version]
            assert sum(answer.action_probability.values()) == pytest.approx(1, abs=1e-5)
            scores = client.score(history, [NEW_ITEM, *ids])
            assert [id_ for id_, score in scores.items() if score is None] == (
                [] if version == 2 else [NEW_ITEM]
            )

    with running_server(repository) as state, clients(state) as first:
        check(first, 1)
        asker = Asker(state.grpc_url, partial(ask, ids))
        asker.start()
        try:
            publish(Repository(repository).version_folder(2), repository)
            with clients(state) as second:
                check([*first, *second], 2)
                rollback(repository)
                check([*first, *second], 1)
                with clients(state) as third:
                    check(third, 1)
                    publish(Repository(repository).version_folder(2), repository)
                    check([*first, *second, *third], 2)

            async def across_a_rollback() -> list[Recommendation]:
                async with AsyncClient(state.grpc_url, timeout=20) as client:
                    before = await client.recommend(history)
                    await asyncio.to_thread(rollback, repository)
                    return [before, await client.recommend(history)]

            for answer, version in zip(asyncio.run(across_a_rollback()), (2, 1), strict=True):
                assert list(answer.action_probability) == actions[version]
        finally:
            asker.ended.set()
            asker.join()
    assert [repr(failure) for failure in asker.failures] == []
    assert {answer.model_version for answer in asker.answers} == {1, 2}
    for answer in asker.answers:
        assert list(answer.action_probability) == actions[answer.model_version]


def config(max_top_k: int) -> dict[str, Any]:
    return {"parameters": {"max_top_k": {"string_value": str(max_top_k)}}}


def top_k(call: Call) -> int:
    return int(dict(call.tensors)[TOP_K][0, 0])


def test_scores_are_asked_again_in_shorter_parts_where_a_swap_shortened_the_longest_list() -> None:
    refusal = InvalidRequest("top_k is 50, this version takes 1 to 30")
    flow = Calls().score(["a"], [str(number) for number in range(50)], None, None)
    assert next(flow).method == "get_model_config"
    assert top_k(flow.send(config(50))) == 50
    assert flow.throw(refusal).method == "get_model_config"
    assert flow.send(config(30)).method == "get_model_config"
    assert top_k(flow.send(config(30))) == 30
    assert flow.throw(refusal).method == "get_model_config"
    with pytest.raises(InvalidRequest, match="top_k is 50"):  # of the same version it is the caller's
        flow.send(config(30))
