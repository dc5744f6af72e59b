"""Training and serving agree: the same raw events give the same indices, gaps and times, byte for byte."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import tritonclient.grpc as grpcclient
from conftest import MAX_LENGTH

from footfall.contract import HISTORY_COLUMNS
from footfall.history import model_input
from footfall_data.dataset import Dataset
from footfall_serving.state import ServerState

NUM_USERS = 300
NOW_MS = 1_760_000_000_000
"""After the simulated log."""


def raw_events(shop: Path) -> dict[str, pl.DataFrame]:
    """Every user's rows as the log has them: duplicates, repeats and disorder included."""
    log = pl.read_parquet(shop / "events").filter(pl.col("user_id").is_not_null())
    return {str(user): rows for (user,), rows in log.group_by("user_id", maintain_order=True)}


def trained_on(dataset: Dataset) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:  # type: ignore[type-arg]
    """What training reads of every user: the columns of the newest events, asked about at NOW_MS."""
    now = np.full(dataset.histories.num_users, NOW_MS)
    inputs = model_input(dataset.histories, now, MAX_LENGTH)
    for user, (start, end) in zip(dataset.users, pairwise(inputs.offsets.tolist()), strict=True):
        yield user.decode(), tuple(column[start:end] for column in inputs.columns)


def test_the_running_servers_preprocess_gives_what_training_read(
    server_with_ranker: ServerState, shop: Path, dataset: Dataset
) -> None:
    raw = raw_events(shop)
    compared, repeats = 0, 0
    with grpcclient.InferenceServerClient(f"unix:{server_with_ranker.grpc_file}") as client:
        for user, expected in list(trained_on(dataset))[:NUM_USERS]:
            rows = raw[user]
            answer = client.infer("preprocess", _inputs(rows))
            length = int(answer.as_numpy("history_length")[0, 0])
            for tensor, array in zip(HISTORY_COLUMNS, expected, strict=True):
                got = answer.as_numpy(tensor.name)[0, :length]
                assert got.tobytes() == array.tobytes(), (user, tensor.name)
            compared += length
            repeats += len(rows) - len(rows.unique())
    assert compared > 1000
    assert repeats > 0, "the log must hold rows that cleaning drops"


def test_events_out_of_order_are_put_in_order_on_both_sides(
    server_with_ranker: ServerState, shop: Path, dataset: Dataset
) -> None:
    raw = raw_events(shop)
    random = np.random.default_rng(0)
    with grpcclient.InferenceServerClient(f"unix:{server_with_ranker.grpc_file}") as client:
        for user, expected in list(trained_on(dataset))[:50]:
            rows = raw[user]
            if rows["timestamp"].n_unique() != len(rows):
                continue
            shuffled = rows[random.permutation(len(rows)).tolist()]
            answer = client.infer("preprocess", _inputs(shuffled))
            length = int(answer.as_numpy("history_length")[0, 0])
            assert answer.as_numpy("history_item")[0, :length].tobytes() == expected[0].tobytes()


def _inputs(rows: pl.DataFrame) -> list[grpcclient.InferInput]:
    inputs = []
    for name, column in (("item_id", "item_id"), ("action", "action")):
        sent = grpcclient.InferInput(name, [1, len(rows)], "BYTES")
        values = np.empty((1, len(rows)), dtype=np.object_)
        values[0, :] = [value.encode() for value in rows[column]]
        sent.set_data_from_numpy(values)
        inputs.append(sent)
    for name, times in (("timestamp", rows["timestamp"].to_numpy()), ("now", np.array([NOW_MS]))):
        sent = grpcclient.InferInput(name, [1, len(times)], "INT64")
        sent.set_data_from_numpy(times[None].astype(np.int64))
        inputs.append(sent)
    return inputs
