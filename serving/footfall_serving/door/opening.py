"""Opening: what a door is told when it is opened."""

from dataclasses import dataclass

Tls = tuple[str, str]
"""Files of a certificate and its key."""


@dataclass(frozen=True)
class Opening:
    """The process to end with, the descriptors of the sockets to take requests on, the socket files that the server
    listens on, with what gRPC takes TLS, and how many inferences may be under way.
    """

    parent: int
    http: int
    grpc: int
    http_file: str
    grpc_file: str
    tls: Tls | None
    max_inferences: int
