"""Canary: real requests with the answers expected of them, which a version carries and publishing replays."""

from typing import Any

import numpy as np

from footfall.contract import DEFAULT_TOP_K
from footfall.history import model_input, slices
from footfall_engines.batch import Batch, IndexLists
from footfall_engines.engine import Engine
from footfall_export.parity import THRESHOLDS
from footfall_training.checkpoint import Checkpoint

NUM_REQUESTS = 8
AGREEMENT = 0.9
"""Least share of one answer's items: nearly equal scores at the end of a list of 20 may trade places."""


def canary(checkpoint: Checkpoint, engine: Engine, precision: str) -> dict[str, Any]:
    """{"tolerance": of a score, "agreement": of the list, "requests": [{item_id, ..., recommended_id, score}]}.

    The answers are `engine`'s: the exported one, or torch where that cannot run here.
    """
    samples, now = checkpoint.samples.histories, checkpoint.samples.now
    requests = []
    for user in range(min(NUM_REQUESTS, samples.num_users)):
        history = slices(samples, samples.offsets[user : user + 1], samples.offsets[user + 1 : user + 2])
        inputs = model_input(history, now[user : user + 1], checkpoint.config.max_length)
        scores = engine.score(Batch(inputs, IndexLists.of([history.item]), IndexLists.of([history.item[:0]])))
        listed = np.flatnonzero(np.isfinite(scores.item_score[0]))[:DEFAULT_TOP_K]
        requests.append(
            {
                "item_id": _texts(checkpoint.items.ids(history.item)),
                "action": _texts(checkpoint.actions.ids(history.action)),
                "timestamp": history.time.tolist(),
                "now": int(now[user]),
                "recommended_id": _texts(checkpoint.items.ids(scores.item_index[0, listed])),
                "score": scores.item_score[0, listed].tolist(),
            }
        )
    return {"tolerance": THRESHOLDS[precision].difference, "agreement": AGREEMENT, "requests": requests}


def _texts(ids: list[bytes]) -> list[str]:
    return [id_.decode() for id_ in ids]
