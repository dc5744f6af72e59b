"""Prometheus: a real one, by monitoring/prometheus.yml, that looks every second at one server."""

import contextlib
import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, eventually

from footfall_serving.ports import free_port

MONITORING = ROOT / "monitoring"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="prometheus is not installed (Debian's package prometheus)"
)


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, path: str, **query: str) -> Any:
        """Data of its API. Raises OSError where it does not answer so."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from error

    def values(self, expression: str) -> list[float]:
        """Of each series that the expression has now."""
        return [float(series["value"][1]) for series in self.ask("query", query=expression)["result"]]

    def names(self) -> set[str]:
        """Of all series that it has seen."""
        return set(self.ask("label/__name__/values"))


@contextlib.contextmanager
def running_prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    assert PROMETHEUS is not None
    shutil.copytree(MONITORING, folder, dirs_exist_ok=True)
    config = folder / "prometheus.yml"
    config.write_text(config.read_text().replace("127.0.0.1:8002", target).replace(" 15s", " 1s"))
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    command = [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=log)
        try:
            prometheus = Prometheus(f"http://{address}")
            assert eventually(lambda: _scraped(prometheus)), (folder / "log").read_text()
            yield prometheus
        finally:
            process.kill()
            process.wait()


def _scraped(prometheus: Prometheus) -> bool:
    with contextlib.suppress(OSError):  # until it listens, and while it answers 503 as it is not ready
        urllib.request.urlopen(f"{prometheus.url}/-/ready", timeout=30).close()
        return prometheus.values("up") == [1.0]
    return False
