"""Service: what the hand-written peers have in common, as a careful engineer would write it for one model.

From a request's JSON to the arrays the graph reads, and from its list back to JSON. It knows nothing of batches of
other lengths, unknown versions or malformed input, which Footfall does.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

DEFAULT_TOP_K = 20
NUM_GAPS = 40
MS_PER_SECOND = 1000

Arrays = dict[str, NDArray[np.int32]]


@dataclass(frozen=True)
class Asked:
    """Arrays of one user, [events] each, and the length of the list that is wanted."""

    arrays: Arrays
    top_k: int


class Service:
    """`place` holds what run.py wrote: items.json, actions.json and settings.json."""

    def __init__(self, place: Path) -> None:
        self._ids: list[str] = json.loads((place / "items.json").read_text())
        self._item = {id_: index for index, id_ in enumerate(self._ids, start=1)}
        actions: list[str] = json.loads((place / "actions.json").read_text())
        self._action = {name: index for index, name in enumerate(actions, start=1)}
        self._max_length: int = json.loads((place / "settings.json").read_text())["max_length"]

    def read(self, body: bytes) -> Asked:
        inputs = {entry["name"]: entry["data"] for entry in orjson.loads(body)["inputs"]}
        return self.asked(inputs)

    def asked(self, inputs: dict[str, Any]) -> Asked:
        items, actions = inputs["item_id"], inputs["action"]
        known = [
            (self._item[id_], self._action[action], time)
            for id_, action, time in zip(items, actions, inputs["timestamp"], strict=True)
            if id_ in self._item and action in self._action
        ]
        seen = list({item for item, _, _ in known})
        item, action, time = np.array(known[-self._max_length :], dtype=np.int64).T
        following = np.append(time[1:], max(inputs["now"][0], int(time[-1])))
        wait = buckets(following - time)
        gap = np.append(0, wait[:-1])
        begin = time[0] // MS_PER_SECOND
        arrays = {
            "history_item": item,
            "history_action": action,
            "history_gap": gap,
            "history_wait": wait,
            "history_time": time // MS_PER_SECOND - begin,
            "history_next_time": following // MS_PER_SECOND - begin,
            "history_length": [len(item)],
            "excluded_index": seen,
        }
        top_k = inputs.get("top_k", [DEFAULT_TOP_K])[0]
        return Asked({name: np.asarray(values, dtype=np.int32) for name, values in arrays.items()}, top_k)

    def answer(
        self, top_k: int, index: NDArray[Any], score: NDArray[np.float32], probability: NDArray[np.float32]
    ) -> dict[str, Any]:
        """Of one user's list, best first, and probabilities of the next action."""
        ids = [self._ids[place - 1] for place in index[:top_k].tolist()]
        return {
            "model_name": "footfall",
            "model_version": "1",
            "outputs": [
                output("recommended_id", "BYTES", ids),
                output("score", "FP32", score[:top_k].tolist()),
                output("action_probability", "FP32", probability.tolist()),
            ],
        }


def output(name: str, kind: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": kind, "shape": [1, len(data)], "data": data}


def buckets(milliseconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 + the bit length of whole seconds, as Footfall's training has it."""
    bit_length = np.frexp((milliseconds // MS_PER_SECOND).astype(np.float64))[1]
    return np.minimum(1 + bit_length, NUM_GAPS - 1)


def batched(users: list[Arrays]) -> Arrays:
    """[users, longest] each, filled from the left."""
    joined = {}
    for name in users[0]:
        rows = [user[name] for user in users]
        table = np.zeros((len(rows), max(map(len, rows))), np.int32)
        for row, values in zip(table, rows, strict=True):
            row[: len(values)] = values
        joined[name] = table
    return joined
