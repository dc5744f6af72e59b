"""What is served and asked: one checkpoint, in the form each peer reads, and bodies made of real histories."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plain_graph import write_plain_graph
from serve import make_repository

from footfall_data.dataset import Dataset
from footfall_engines.repository import Repository
from footfall_models.weights import load_weights

LENGTHS = (10, 50, 200)
ZIPF = "Zipf mix"
NUM_BODIES = 256
ASKED_AFTER_MS = 60_000


def make_place(place: Path) -> None:
    """The repository of benchmarks/serve.py, and the peers' files beside it."""
    dataset, repository = make_repository(place)
    version = Repository(repository).version(1)
    write_plain_graph(load_weights(place / "checkpoint"), place / "plain.onnx")
    shutil.copyfile(version.folder / "model.onnx", place / "engine.onnx")
    for name, ids in (("items", version.items), ("actions", version.actions)):
        (place / f"{name}.json").write_text(json.dumps([id_.decode() for id_ in ids]))
    (place / "settings.json").write_text(json.dumps({"max_length": version.max_length}))
    for length in LENGTHS:
        write_bodies(bodies_file(place, length), dataset, np.full(NUM_BODIES, length))
    write_bodies(bodies_file(place, ZIPF), dataset, zipf_lengths())


def bodies_file(place: Path, length: int | str) -> Path:
    return place / f"bodies_{length}".replace(" ", "_")


def zipf_lengths() -> NDArray[np.int64]:
    """1 to 200 events, n as often as 1 / n: many short histories, few long ones."""
    lengths = np.arange(1, max(LENGTHS) + 1)
    return np.random.default_rng(1).choice(lengths, NUM_BODIES, p=(1 / lengths) / (1 / lengths).sum())


def write_bodies(path: Path, dataset: Dataset, lengths: NDArray[np.int64]) -> None:
    """One request a line: a stretch of so many events of some user, asked about a minute after the last."""
    histories, random = dataset.histories, np.random.default_rng(0)
    ids, names = ([id_.decode() for id_ in known] for known in (dataset.items, dataset.actions))
    lines = []
    for length in lengths.tolist():
        user = random.choice(np.flatnonzero(histories.lengths >= length))
        start = random.integers(histories.offsets[user], histories.offsets[user + 1] - length + 1)
        columns = (column[start : start + length].tolist() for column in (histories.item, histories.action))
        items, actions = columns
        times = histories.time[start : start + length].tolist()
        inputs = (
            tensor("item_id", "BYTES", [ids[item - 1] for item in items]),
            tensor("action", "BYTES", [names[action - 1] for action in actions]),
            tensor("timestamp", "INT64", times),
            tensor("now", "INT64", [times[-1] + ASKED_AFTER_MS]),
        )
        outputs = [{"name": name} for name in ("recommended_id", "score", "action_probability")]
        lines.append(json.dumps({"inputs": inputs, "outputs": outputs}))
    path.write_text("\n".join(lines) + "\n")


def tensor(name: str, kind: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": kind, "shape": [1, len(data)], "data": data}
