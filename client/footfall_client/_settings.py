"""Settings: how a client reaches the server, shared by both clients."""

import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from footfall.contract import GRPC_KEY_HEADER, KEY_HEADER
from footfall_client._exceptions import InvalidRequest

Protocol = Literal["grpc", "http"]
DEFAULT_TIMEOUT_S = 5.0
DEFAULT_RETRIES = 3


@dataclass(frozen=True)
class Settings:
    """`url` is host:port; `tls` True or the PEM file of a root; `key` guards the repository API.

    `certificate`, the PEM files of one and of its key, is shown in mutual TLS.
    """

    url: str
    protocol: Protocol = "grpc"
    timeout: float = DEFAULT_TIMEOUT_S
    retries: int = DEFAULT_RETRIES
    tls: bool | str | Path = False
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    certificate: tuple[str | Path, str | Path] | None = None

    def __post_init__(self) -> None:
        if "://" in self.url:
            raise InvalidRequest(f"the url {self.url} must be host:port, without a scheme")
        address = re.fullmatch(r"[!-~]+:([0-9]{1,5})(/[!-~]*)?", self.url)
        if address is None or int(address[1]) > 65535:
            raise InvalidRequest(f"the url {self.url!r} must be host:port")
        if self.protocol not in ("grpc", "http"):
            raise InvalidRequest(f"unknown protocol {self.protocol!r}; there are grpc and http")
        if not self.timeout > 0 or self.retries < 0:  # so a NaN is refused too
            raise InvalidRequest(
                f"timeout {self.timeout} must be above 0 and retries {self.retries} at least 0"
            )
        if self.certificate and not self.tls:
            raise InvalidRequest(f"the certificate {self.certificate[0]} is of no use without tls")
        if self.tls:
            self.tls_context()

    def all_headers(self) -> dict[str, str]:
        name = GRPC_KEY_HEADER if self.protocol == "grpc" else KEY_HEADER
        return {**self.headers, **({name: self.key} if self.key else {})}

    @property
    def root_certificates(self) -> str | None:
        return None if isinstance(self.tls, bool) else str(self.tls)

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine by name."""
        host = self.url.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host.lower() == "localhost"

    def tls_context(self) -> ssl.SSLContext:
        """Trusts the root, or without one what the machine trusts. Raises InvalidRequest."""
        try:
            context = ssl.create_default_context(cafile=self.root_certificates)
        except ssl.SSLError as error:
            raise InvalidRequest(f"the TLS root {self.tls} holds no PEM certificate") from error
        except OSError as error:
            raise InvalidRequest(f"the TLS root {self.tls} cannot be read: {error.strerror}") from error
        if self.certificate:
            try:
                context.load_cert_chain(*self.certificate)
            except OSError as error:  # ssl.SSLError is one
                files = " and the key ".join(map(str, self.certificate))
                raise InvalidRequest(
                    f"the certificate {files} are not of each other: {error.strerror}"
                ) from error
        return context
