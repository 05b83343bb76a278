"""Alerts and dashboard ask for metrics that there are, in queries that Prometheus reads."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.metrics import Metrics
from serve.trust.metrics import TrustMetrics

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = DEPLOY / "prometheus/rules.yaml"
DASHBOARD = json.loads((DEPLOY / "grafana/understudy.json").read_text(encoding="utf-8"))
PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def queries() -> Iterator[str]:
    """Of all rules and panels."""
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def samples() -> set[str]:
    """Names under which the application's metrics appear."""
    kinds = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    metrics = Metrics()
    TrustMetrics(metrics._registry)
    families = metrics._registry.collect()
    return {family.name + ending for family in families for ending in kinds[family.type]}


def asked() -> set[str]:
    return {name for query in queries() for name in re.findall(r"\bunderstudy_\w+", query)}


def test_every_metric_asked_for_exists():
    """Oracle: the application's own registry."""
    assert asked() - samples() == set()


def test_every_metric_is_shown():
    """Oracle: the registry: each of its families is on the dashboard or in a rule."""
    ours = {name for name in samples() if name.startswith("understudy_")}
    assert {base(name) for name in ours} - {base(name) for name in asked()} == set()


def base(name: str) -> str:
    return re.sub(r"_(total|bucket|sum|count)$", "", name)


def test_panels_lie_beside_each_other():
    """Oracle: Grafana's grid of 24 columns: no two panels share a cell; ids are unique."""
    cells: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for column in range(place["x"], place["x"] + place["w"]):
            for line in range(place["y"], place["y"] + place["h"]):
                assert cells.setdefault((column, line), panel["title"]) == panel["title"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_every_variable_is_declared():
    """Oracle: the dashboard's own list, and Grafana's interval."""
    declared = {each["name"] for each in DASHBOARD["templating"]["list"]} | {"__rate_interval"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"]))) <= declared


def run(*arguments: str) -> Any:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


@PROMTOOL
def test_alerts_ring_when_they_should():
    """Oracle: Prometheus's own evaluation of invented series, good and bad."""
    done = run("test", "rules", str(DEPLOY / "prometheus/rules_test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@PROMTOOL
def test_panels_hold_queries_that_prometheus_reads(tmp_path):
    """Oracle: Prometheus's parser, each query as the expression of a recording rule, Grafana's variables filled in."""
    rules = [{"record": f"panel:{number}", "expr": fill(query)} for number, query in enumerate(queries())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = run("check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def fill(query: str) -> str:
    return query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$model", ".*")


def test_the_rule_tests_name_every_alert():
    """Oracle: the rules."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    text = (DEPLOY / "prometheus/rules_test.yaml").read_text(encoding="utf-8")
    assert {name for name in alerts if name not in text} == set()
