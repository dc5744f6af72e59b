"""ServeOptions: how `footfall serve` serves. Light, so that the command's help is too."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from footfall.contract import MAX_INFERENCES
from footfall.errors import InputError
from footfall.flag import Flag

MAX_PORT = 2**16 - 1
OTLP_URL = re.compile(r"https?://[!-~]+")
PURPOSES = ("http", "grpc", "metrics")


@dataclass(frozen=True)
class ServeOptions:
    """`repository_key` None means a random one."""

    bind: Annotated[str, Flag("Address to listen on.")] = "127.0.0.1"
    http_port: Annotated[int, Flag("0: a free one.")] = 8000
    grpc_port: Annotated[int, Flag("0: a free one.")] = 8001
    metrics_port: Annotated[int, Flag("0: a free one.")] = 8002
    grpc_tls_cert: Annotated[Path | None, Flag("PEM certificate; gRPC then takes TLS only.")] = None
    grpc_tls_key: Annotated[Path | None, Flag("PEM key of the certificate.")] = None
    grpc_tls_root: Annotated[Path | None, Flag("PEM root that signed the certificate; tried on it.")] = None
    max_inferences: Annotated[
        int,
        Flag(
            "Under way at once, of all callers; one more is told to try again. No more than the answers a second"
            " times the seconds that callers wait."
        ),
    ] = MAX_INFERENCES
    drain_s: Annotated[
        float,
        Flag(
            "At most, after SIGTERM: it is not ready, answers who still comes, and ends 3 s after the last. ctrl-C or"
            " a second SIGTERM ends it at once; 0 does not drain."
        ),
    ] = 20.0
    response_cache_mib: Annotated[
        int,
        Flag(
            "Memory for answers, of each version that is loaded; the same request is then not computed again."
        ),
    ] = 0
    access_log: Annotated[Path | None, Flag("A JSON line for each inference is appended to this file.")] = (
        None
    )
    access_share: Annotated[float, Flag("Of the inferences, in the access log.")] = 1.0
    otlp_url: Annotated[
        str | None, Flag("Where OpenTelemetry's traces go, as http://localhost:4318/v1/traces.")
    ] = None
    trace_share: Annotated[float, Flag("Of the requests, that are traced: one in a whole number.")] = 0.01
    repository_key: str | None = None

    def __post_init__(self) -> None:
        if (self.grpc_tls_cert is None) != (self.grpc_tls_key is None):
            raise InputError("TLS needs both a certificate and its key; one of the two is missing")
        for path in (self.grpc_tls_cert, self.grpc_tls_key, self.grpc_tls_root):
            if path is not None and not path.is_file():
                raise InputError(f"the TLS file {path} does not exist")
        for name in ("access_share", "trace_share"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name.replace('_', ' ')} {getattr(self, name)} is not in 0..1")
        if self.access_log is not None and not self.access_log.parent.is_dir():
            raise InputError(f"the access log {self.access_log} lies in a folder that does not exist")
        if self.otlp_url is not None and not OTLP_URL.fullmatch(self.otlp_url):
            raise InputError(f"the OTLP url {self.otlp_url!r} is not http://HOST:PORT/PATH")
        if self.max_inferences < 1:
            raise InputError(f"max inferences {self.max_inferences} must be at least 1")
        if not self.drain_s >= 0:
            raise InputError(f"drain s {self.drain_s} cannot be below 0")
        if self.response_cache_mib < 0:
            raise InputError(f"response cache mib {self.response_cache_mib} must be at least 0")
        purposes: dict[int, str] = {}
        for purpose, port in zip(PURPOSES, (self.http_port, self.grpc_port, self.metrics_port), strict=True):
            if not 0 <= port <= MAX_PORT:
                raise InputError(f"{purpose} port {port} is not in 0..{MAX_PORT}")
            if port and port in purposes:
                raise InputError(f"{purposes[port]} and {purpose} cannot both have port {port}")
            purposes[port] = purpose
