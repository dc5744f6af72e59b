"""A light client of a served Footfall model, over gRPC or HTTP."""

from footfall_client._async_client import AsyncClient
from footfall_client._client import Client
from footfall_client._exceptions import (
    DeadlineExceeded,
    FootfallClientError,
    InvalidRequest,
    ModelNotReady,
    Overloaded,
    ServerError,
    Unauthorized,
    Unavailable,
)
from footfall_client._types import Event, ModelState, Recommendation, RecommendedItem

__all__ = [
    "AsyncClient",
    "Client",
    "DeadlineExceeded",
    "Event",
    "FootfallClientError",
    "InvalidRequest",
    "ModelNotReady",
    "ModelState",
    "Overloaded",
    "Recommendation",
    "RecommendedItem",
    "ServerError",
    "Unauthorized",
    "Unavailable",
]
