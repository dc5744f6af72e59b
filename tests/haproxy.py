"""Proxy: a real HAProxy that runs proxy/haproxy.cfg, with certificates and keys for its callers."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from certificates import issued, written
from conftest import ROOT, eventually

from footfall_client import Client
from footfall_client._settings import Protocol
from footfall_serving.ports import free_port

HAPROXY = shutil.which("haproxy")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")


@dataclass(frozen=True)
class Proxy:
    url: str
    root: Path
    caller: tuple[Path, Path]
    log: Path

    def client(self, protocol: Protocol, key: str | None, **options: Any) -> Client:
        return Client(self.url, protocol, **(self.options(key) | options))

    def options(self, key: str | None) -> dict[str, Any]:
        """Of a client that is let in."""
        headers = {} if key is None else {"x-api-key": key}
        return {"tls": self.root, "certificate": self.caller, "headers": headers, "retries": 0}


@contextlib.contextmanager
def running_proxy(folder: Path, addresses: dict[str, str], limit: int = 20) -> Iterator[Proxy]:
    """Before the servers at `addresses`; the key "sesame" has no limit to speak of, "slow-sesame" has `limit`."""
    root, callers_root = issued(), issued()
    certificate, key = written(folder / "own", issued("localhost", by=root))
    (folder / "bundle.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    (folder / "keys.map").write_text("sesame shop\nslow-sesame batch\n")
    (folder / "limits.map").write_text(f"shop 1000000\nbatch {limit}\n")
    port = free_port("127.0.0.1")
    environment = addresses | {
        "ADDRESS": f"127.0.0.1:{port}",
        "CERTIFICATE": str(folder / "bundle.pem"),
        "CALLERS_ROOT": str(written(folder / "callers", callers_root)[0]),
        "KEYS": str(folder / "keys.map"),
        "LIMITS": str(folder / "limits.map"),
    }
    assert HAPROXY is not None
    command = [HAPROXY, "-db", "-f", str(ROOT / "proxy" / "haproxy.cfg")]
    log = folder / "log"
    with log.open("w") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
    try:
        assert eventually(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, log.read_text()
        caller = written(folder / "caller", issued("caller", by=callers_root))
        yield Proxy(f"localhost:{port}", written(folder / "root", root)[0], caller, log)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
