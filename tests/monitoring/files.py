"""What is in apache/monitoring: the rules, and the panels of the dashboard with their queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from tests.monitoring.programs import FILES

ALERTS = FILES / "alerts.yml"
DASHBOARD = FILES / "grafana-dashboard.json"
PROMETHEUS_CONFIG = FILES / "prometheus.yml"


def rules() -> list[dict[str, Any]]:
    """The rules of alerts.yml: those that record, and those that alert."""
    return [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The rules that alert, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return found


def panels() -> Iterator[dict[str, Any]]:
    """Yield the panels that have queries."""
    for panel in dashboard()["panels"]:
        if panel["type"] != "row":
            yield panel


class Query(NamedTuple):
    """A query of the dashboard. ``legend`` names labels as ``{{label}}``; empty for a variable."""

    panel: str
    ref: str
    expr: str
    legend: str
    is_instant: bool


def queries() -> list[Query]:
    """The queries of all panels."""
    return [
        Query(
            panel["title"],
            target["refId"],
            target["expr"],
            target.get("legendFormat", ""),
            target.get("instant", False),
        )
        for panel in panels()
        for target in panel["targets"]
    ]


def variables() -> dict[str, dict[str, Any]]:
    """The variables of the dashboard, by name."""
    return {variable["name"]: variable for variable in dashboard()["templating"]["list"]}


def substitute(expr: str, interval: str) -> str:
    """A query as Grafana sends it: all servers and buckets, and an interval such as ``15s``."""
    for name, variable in variables().items():
        if variable["type"] == "query":
            expr = expr.replace(f"${name}", variable["allValue"])
    return expr.replace("$__rate_interval", interval)
