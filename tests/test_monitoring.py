"""monitoring/: rules and configuration by promtool, and loaded into a real Prometheus that looks at a real server."""

import json
import math
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard as Grafanas
from prometheus import MONITORING, PROMTOOL, needs_prometheus, running_prometheus

from footfall_client import Client, InvalidRequest
from footfall_data.dataset import Dataset
from footfall_data.splits import training_histories
from footfall_serving.state import ServerState

NAME = re.compile(r"\b(?:footfall_\w+|nv_\w+|footfall:\w+:\w+|up)\b")
NUM_ASKED = 250
PSI = 'footfall:psi:increase1h{of="item", version="1"}'


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return read


def expressions() -> Iterator[str]:
    """Of the dashboard, as Grafana sends them."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


@needs_prometheus
@pytest.mark.parametrize(
    "check",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "recording.yml", "alerts.yml"],
        ["test", "rules", "rules_test.yml"],
    ],
    ids=lambda check: " ".join(check[:2]),
)
def test_promtool_takes_configuration_and_rules_and_every_alert_is_raised_by_its_trouble(
    check: list[str],
) -> None:
    done = subprocess.run([PROMTOOL or "", *check], cwd=MONITORING, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_told_of_in_the_docs() -> None:
    alerts = re.findall(r"- alert: (\w+)", (MONITORING / "alerts.yml").read_text())
    tests = (MONITORING / "rules_test.yml").read_text()
    page = (MONITORING.parent / "docs" / "monitoring.md").read_text()
    assert len(alerts) == len(set(alerts)) > 0
    for alert in alerts:
        assert len(re.findall(rf"alertname: {alert}\b", tests)) == 2, f"{alert}: raised and not raised"
        assert f"`{alert}`" in page


def test_grafanas_own_library_reads_the_dashboard_and_loses_nothing_of_it() -> None:
    read = Grafanas.from_json(dashboard())
    assert_kept(dashboard(), json.loads(json.dumps(read, cls=JSONEncoder)))


def assert_kept(written: Any, read: Any) -> None:
    if isinstance(written, dict):
        for name, value in written.items():
            assert_kept(value, read[name])
    elif isinstance(written, list):
        for one, other in zip(written, read, strict=True):
            assert_kept(one, other)
    else:
        assert written == read


def ask(server: ServerState, histories: Sequence[list[str]]) -> None:
    """Over both protocols in turn."""
    with Client(server.grpc_url) as grpc, Client(server.http_url, "http") as http:
        for place, history in enumerate(histories):
            (grpc, http)[place % 2].recommend(history, k=5)
        with pytest.raises(InvalidRequest):
            http.recommend([], k=10**6)


@needs_prometheus
def test_a_real_prometheus_has_what_rules_and_dashboard_ask_for_and_tells_another_mix_of_items(
    server: ServerState, dataset: Dataset, tmp_path: Path
) -> None:
    training = training_histories(dataset, "leave_one_out")
    ids = [id_.decode() for id_ in dataset.items.ids(training.item)]
    ends = training.offsets[1 : NUM_ASKED + 1].tolist()
    like_training = [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    rarest = dataset.items.ids(range(len(dataset.items) - 20, len(dataset.items)))
    with running_prometheus(tmp_path, server.metrics_url) as prometheus:
        ask(server, like_training)
        events = sum(map(len, like_training))
        counted = 'sum(footfall:mix_events:increase1h{of="item", version="1"})'
        assert eventually(lambda: max(prometheus.values(counted), default=0) > 0.8 * events)
        assert eventually(lambda: 0 <= max(prometheus.values(PSI), default=-1) < 0.1), prometheus.values(PSI)
        for expression in expressions():
            assert eventually(lambda: any(map(math.isfinite, prometheus.values(expression)))), expression  # noqa: B023
        rules = (MONITORING / "recording.yml").read_text() + (MONITORING / "alerts.yml").read_text()
        asked = set(NAME.findall(re.sub(r"summary: .*", "", rules)))
        assert asked <= prometheus.names()
        groups = prometheus.ask("rules")["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
        ask(server, [[id_.decode() for id_ in rarest]] * NUM_ASKED)
        assert eventually(lambda: max(prometheus.values(PSI), default=0) > 0.2), prometheus.values(PSI)
