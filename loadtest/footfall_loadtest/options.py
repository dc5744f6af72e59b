"""LoadTestOptions: what a load test asks of a server. Light, so that the help of `footfall loadtest` is too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from footfall.errors import InputError
from footfall.flag import Flag

Protocol = Literal["grpc", "http"]
PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http")


@dataclass(frozen=True)
class LoadTestOptions:
    """The flags of `footfall loadtest`, and of `locust` where it is given a scenario's file."""

    dataset: Annotated[Path, Flag("A folder written by `footfall prepare`; histories come from it.")]
    out: Annotated[Path, Flag("Folder of report.html and report.json.")] = Path("load_report")
    rate: Annotated[
        float, Flag("Requests a second, at random moments; before a burst, at the end of a ramp.")
    ] = 50.0
    seconds: Annotated[float | None, Flag("How long; left out: the scenario's own, 30 or a soak's 3600.")] = (
        None
    )
    protocol: Annotated[
        Literal["grpc", "http", "both"] | None,
        Flag("What to load; left out: gRPC, and in mixed both."),
    ] = None
    grpc_url: Annotated[str, Flag("host:port of gRPC.", "--url")] = "127.0.0.1:8001"
    http_url: Annotated[str, Flag("host:port of HTTP.")] = "127.0.0.1:8000"
    metrics_url: Annotated[
        str, Flag("host:port of the server's metrics, for its own share of the times; empty: not asked.")
    ] = "127.0.0.1:8002"
    tls_root: Annotated[Path | None, Flag("PEM root of the server's certificate; TLS is then used.")] = None
    repository: Annotated[
        Path | None,
        Flag("Of a running server, whose addresses it tells; a swap needs it."),
    ] = None
    timeout_s: Annotated[
        float, Flag("Seconds until a request without an answer has failed.", "--timeout")
    ] = 5.0
    top_k: Annotated[
        int | None, Flag("Length of the lists asked for; left out: the default of the server.")
    ] = None
    max_events: Annotated[int, Flag("Longest history sent.")] = 200
    seed: Annotated[int, Flag("The same moments and histories for the same seed.")] = 0

    def __post_init__(self) -> None:
        for name, value in (("rate", self.rate), ("seconds", self.seconds), ("timeout", self.timeout_s)):
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value:g}, it must be above 0")
        if self.max_events < 1:
            raise InputError(f"max_events is {self.max_events}, it must be at least 1")
        if self.protocol not in (None, *PROTOCOLS, "both"):
            raise InputError(f"unknown protocol {self.protocol}; there are {', '.join(PROTOCOLS)} and both")

    def url(self, protocol: Protocol) -> str:
        return self.grpc_url if protocol == "grpc" else self.http_url
