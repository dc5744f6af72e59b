"""The public contract: names, types, shapes and limits of everything that crosses a process boundary.

Every request carries one user. On the wire each tensor has a leading batch axis of 1, so `item_id` is
[1, n]; `dims` below leaves it out, as the server's configuration does. -1 is a length that may differ
from request to request.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

PADDING_INDEX = 0
"""Index of "no item", "no action" and "no gap" alike."""

FIRST_INDEX = 1
"""Where real indices start."""

UNKNOWN_INDEX = 2**31 - 1
"""A candidate the vocabulary does not know: past every catalogue, so it never scores."""

UNKNOWN_TIME = -(2**63)
"""In place of the epoch milliseconds of an event whose time is not known: no time there is, as 0 is one (1970)."""

UNKNOWN_GAP = 0
NUM_GAPS = 40
"""Time-gap buckets: 0 is unknown, b >= 2 holds [2**(b-2), 2**(b-1)) seconds (see history.time_gaps)."""

DEFAULT_ACTION = "view"
"""Of an event whose action is left out or empty; where a log has no views, its first action (history.encode)."""
DEFAULT_TOP_K = 20
DEFAULT_EXCLUDE_SEEN = True
DEFAULT_MAX_TOP_K = 100
"""Longest list an engine returns unless exported with another --max-top-k."""

MAX_BATCH = 64
"""Requests a model of the server takes at once."""
MAX_INFERENCES = 2 * MAX_BATCH
"""Inferences under way at once, of all callers: one batch is computed while the next one forms."""
OVERLOADED = "as many inferences are under way as are taken at once; try again"
"""What one more is told, as UNAVAILABLE or 503."""
MAX_ID_BYTES = 512
MAX_ACTIONS = 255
MAX_EVENTS_READ = 8192
"""Of a longer request the model looks at the newest this many events only; seen are the items of all."""
MAX_SEEN = 65_536
"""Items of the catalogue that one request may have seen, where it wants them kept out of its answer."""
MAX_CANDIDATES = 16384

DataType = Literal["BYTES", "BOOL", "INT32", "INT64", "FP32"]


@dataclass(frozen=True)
class Tensor:
    """One named tensor: `dims` without the batch axis, -1 for a free length."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]
    optional: bool = False


KEY_HEADER = "footfall-key"
"""HTTP header with the key that guards the repository API."""
GRPC_KEY_HEADER = f"triton-grpc-protocol-{KEY_HEADER}"
"""The same over gRPC, where the server expects this prefix."""

REQUEST_ID = "x-request-id"
"""HTTP header, or metadata of gRPC, with what a request is called; of every answer to an inference."""
PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""What a request may be called: a log, a header and a trace take it as it is."""

ENSEMBLE = "footfall"
CANDIDATE_ENSEMBLE = "upcoming"
"""The same of a version that is tried beside the live one; of one length, so that the door may exchange the names."""
RECOMMENDER = "recommender"
PREPROCESS = "preprocess"
RANKER = "ranker"
POSTPROCESS = "postprocess"
COMPOSING_MODELS = (RECOMMENDER, PREPROCESS, RANKER, POSTPROCESS)
"""All there are; of which a version consists, Version.steps tells."""

# Required of every request. Optional to the server alone: what it says of a missing one ("unexpected deadlock") helps
# nobody, whereas the first step says that item_id is missing.
ITEM_ID = Tensor("item_id", "BYTES", (-1,), optional=True)
ACTION = Tensor("action", "BYTES", (-1,), optional=True)
TIMESTAMP = Tensor("timestamp", "INT64", (-1,), optional=True)
TOP_K = Tensor("top_k", "INT32", (1,), optional=True)
CANDIDATE_ID = Tensor("candidate_id", "BYTES", (-1,), optional=True)
EXCLUDE_SEEN = Tensor("exclude_seen", "BOOL", (1,), optional=True)
NOW = Tensor("now", "INT64", (1,), optional=True)
"""When the request is made, epoch milliseconds: how long ago the last event was. Left out: the server's clock;
UNKNOWN_TIME: nobody knows."""
USER_ID = Tensor("user_id", "BYTES", (1,), optional=True)
"""Who asks; lets an engine keep what it computed of the history for the next request. Changes no answer."""
ANEW_USER = b"\0"
"""Names who tries whether a server computes: nothing is kept of what it asks, nothing kept before answers it."""
REQUEST = (ITEM_ID, ACTION, TIMESTAMP, NOW, TOP_K, CANDIDATE_ID, EXCLUDE_SEEN, USER_ID)

RECOMMENDED_ID = Tensor("recommended_id", "BYTES", (-1,))
SCORE = Tensor("score", "FP32", (-1,))
ACTION_PROBABILITY = Tensor("action_probability", "FP32", (-1,))
ACTION_NAME = Tensor("action_name", "BYTES", (-1,))
"""Whose each action_probability is; in every answer, as a swap may add actions."""
USER_VECTOR = Tensor("user_vector", "FP32", (-1,))
MODEL_VERSION = Tensor("model_version", "INT64", (1,))
HEADS = {"action": ACTION_PROBABILITY}
"""What a model may say of a history beside the items, by the name of the head that says it. A version has some."""

# Between the ensemble's steps; these are also the names of every engine's inputs and outputs. A list that
# would be empty holds one PADDING_INDEX instead, so that no tensor between steps has length 0.
HISTORY_ITEM = Tensor("history_item", "INT32", (-1,))
HISTORY_ACTION = Tensor("history_action", "INT32", (-1,))
HISTORY_GAP = Tensor("history_gap", "INT32", (-1,))
HISTORY_WAIT = Tensor("history_wait", "INT32", (-1,))
HISTORY_TIME = Tensor("history_time", "INT32", (-1,))
HISTORY_NEXT_TIME = Tensor("history_next_time", "INT32", (-1,))
HISTORY_LENGTH = Tensor("history_length", "INT32", (1,))
EXCLUDED_INDEX = Tensor("excluded_index", "INT32", (-1,))
CANDIDATE_INDEX = Tensor("candidate_index", "INT32", (-1,))
HISTORY_COLUMNS = (
    HISTORY_ITEM,
    HISTORY_ACTION,
    HISTORY_GAP,
    HISTORY_WAIT,
    HISTORY_TIME,
    HISTORY_NEXT_TIME,
)
"""See history.ModelInput."""
ENGINE_INPUTS = (*HISTORY_COLUMNS, HISTORY_LENGTH, EXCLUDED_INDEX, CANDIDATE_INDEX)

ITEM_INDEX = Tensor("item_index", "INT32", (-1,))
ITEM_SCORE = Tensor("item_score", "FP32", (-1,))


def engine_outputs(heads: Iterable[str]) -> tuple[Tensor, ...]:
    """Of a model with those heads."""
    return (ITEM_INDEX, ITEM_SCORE, *(HEADS[head] for head in heads), USER_VECTOR)


def response(heads: Iterable[str]) -> tuple[Tensor, ...]:
    """What a version with those heads answers."""
    said = (HEADS[head] for head in heads)
    return (RECOMMENDED_ID, SCORE, *said, ACTION_NAME, USER_VECTOR, MODEL_VERSION)
