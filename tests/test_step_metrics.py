"""What the steps count of requests, and the mix of items and actions that they compare with training."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import copied, eventually, infer, reseal
from scraped import scraped, value

from footfall_data.dataset import Dataset
from footfall_data.splits import training_histories
from footfall_engines.mix import GROUP_FILE, NUM_GROUPS, UNKNOWN, UNTRAINED, TrainingMix
from footfall_engines.repository import Repository
from footfall_serving.server import running_server
from footfall_serving.state import ServerState


def test_what_requests_hold_is_counted_of_their_version(server: ServerState, ids: list[str]) -> None:
    """The supervisor's own requests, one a second, are counted too."""
    before = scraped(server)
    for history in ([], ids[:3], [*ids[:7], "nobody knows"]):
        assert infer(server, ("item_id", "BYTES", history), ("top_k", "INT32", [3]))[0] == 200

    def more(name: str, **labels: str) -> float:
        return value(scraped(server), name, version="1", **labels) - value(before, name, **labels)

    # Each process of the step tells at its own times.
    assert eventually(lambda: more("footfall_history_length_sum") >= 10)
    assert eventually(lambda: more("footfall_events_total") >= 11)
    assert eventually(lambda: more("footfall_dropped_events_total", reason="unknown_item") == 1)
    assert eventually(lambda: more("footfall_history_length_bucket", le="0") == 1)
    assert eventually(lambda: more("footfall_history_length_bucket", le="5") >= 2)
    assert eventually(lambda: more("footfall_best_score_bucket", le="+Inf") >= 3)
    assert more("footfall_best_score_bucket", le="-20") == 0
    assert eventually(lambda: more("footfall_mix_events_total", of="item", group=UNKNOWN) == 1)
    assert eventually(lambda: more("footfall_mix_events_total", of="action") >= 10)


def test_a_version_tells_the_mix_of_its_training(tiny_repository: Path, dataset: Dataset) -> None:
    version = Repository(tiny_repository).version(1, verify=True)
    mix = TrainingMix.open(version)
    training = training_histories(dataset, "leave_one_out")
    assert mix is not None
    events = np.bincount(training.item, minlength=len(dataset.items) + 1)
    shares = np.bincount(mix.item_group, weights=events, minlength=NUM_GROUPS + 2) / events.sum()
    np.testing.assert_allclose(list(mix.items.values()), shares, atol=1e-9)
    assert mix.items[UNKNOWN] == mix.items[UNTRAINED] == 0
    assert max(mix.items.values()) < 2 / NUM_GROUPS
    actions = np.bincount(training.action, minlength=len(dataset.actions) + 1)[1:] / len(training.action)
    np.testing.assert_allclose(list(mix.actions.values()), actions, atol=1e-3)


def test_groups_have_equal_shares_and_those_nobody_bought_are_apart() -> None:
    events = np.array([0, *range(200, 0, -1), 0, 0])
    mix = TrainingMix.of(events, {})
    shares = list(mix.items.values())
    assert shares[:NUM_GROUPS] == pytest.approx([1 / NUM_GROUPS] * NUM_GROUPS, abs=0.01)
    assert list(np.flatnonzero(mix.item_group == NUM_GROUPS)) == [201, 202]
    assert list(np.flatnonzero(mix.item_group == NUM_GROUPS + 1)) == [0]
    assert list(mix.item_group[1:201]) == sorted(mix.item_group[1:201])


def test_a_version_of_before_serves_on_without_its_mix(
    tiny_repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    repository = copied(tiny_repository, tmp_path / "repository")
    folder = Repository(repository).version_folder(1)
    (folder / GROUP_FILE).unlink()
    reseal(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("training_mix")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with running_server(repository) as state:
        assert infer(state, ("item_id", "BYTES", ids[:3]))[0] == 200
        assert eventually(lambda: value(scraped(state), "footfall_events_total") >= 3)
        assert not any("mix" in name for name in scraped(state))
