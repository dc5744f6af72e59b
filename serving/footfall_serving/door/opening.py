"""Opening: what a door is told when it is opened."""

from dataclasses import dataclass

Tls = tuple[str, str]
"""Files of a certificate and its key."""
Access = tuple[str, float]
"""The file of the access log, and the share of inferences that are in it."""


@dataclass(frozen=True)
class Opening:
    """The process to end with, the descriptors of the sockets to take requests on, the socket files that the server
    listens on, with what gRPC takes TLS, how many inferences may be under way, and where they are written down.
    """

    parent: int
    http: int
    grpc: int
    http_file: str
    grpc_file: str
    tls: Tls | None
    max_inferences: int
    access: Access | None = None
